//go:build !amd64

package twosum

const hasBlocks2 = false

func blocks2(_, _ *[8]uint32, _ []byte) { panic("twosum: not on this processor") }
