package update

import (
	"crypto/sha256"
	"fmt"
)

// BlockSize is the length in bytes of every block of an archive but the last.
const BlockSize = 4 << 20

// MaxLength bounds the length in bytes of an archive: 1 TiB, an 8 MiB block list.
const MaxLength = 1 << 40

// Blocks is the block list of an archive: the digest of each block, in order.
type Blocks []Digest

// BlockCount returns how many blocks an archive of length bytes has, from 0 to MaxLength.
func BlockCount(length int64) int {
	return int((length + BlockSize - 1) / BlockSize)
}

// BlockLength returns the length in bytes of block i, from 0 to below BlockCount(length), of an
// archive of length bytes.
func BlockLength(length int64, i int) int64 {
	return min(BlockSize, length-int64(i)*BlockSize)
}

// ParseBlocks parses the block list of an archive of length bytes: 32 bytes for each block.
func ParseBlocks(b []byte, length int64) (Blocks, error) {
	if length < 0 || length > MaxLength {
		return nil, fmt.Errorf("block list: archive length %d is not between 0 and %d", length, int64(MaxLength))
	}
	n := BlockCount(length)
	if len(b) != n*sha256.Size {
		return nil, fmt.Errorf("block list: expected %d bytes for an archive of %d, got %d", n*sha256.Size, length, len(b))
	}
	list := make(Blocks, n)
	for i := range list {
		list[i] = Digest(b[i*sha256.Size:])
	}
	return list, nil
}

// Bytes returns the list as it is served: 32 bytes for each block, nothing between them.
func (b Blocks) Bytes() []byte {
	out := make([]byte, 0, len(b)*sha256.Size)
	for _, d := range b {
		out = append(out, d[:]...)
	}
	return out
}
