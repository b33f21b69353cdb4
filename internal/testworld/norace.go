//go:build !race

package testworld

const raced = false
