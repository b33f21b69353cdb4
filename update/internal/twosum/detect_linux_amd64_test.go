package twosum

import (
	"bytes"
	"os"
	"slices"
	"testing"
)

// The kernel reads the same processor.
func TestDetectAgreesWithKernel(t *testing.T) {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		t.Skip(err)
	}
	_, flags, ok := bytes.Cut(info, []byte("\nflags\t\t:"))
	if !ok {
		t.Skip("no flags in /proc/cpuinfo")
	}
	line, _, _ := bytes.Cut(flags, []byte("\n"))
	words := slices.Collect(bytes.FieldsSeq(line))
	has := func(want string) bool {
		return slices.ContainsFunc(words, func(w []byte) bool { return string(w) == want })
	}
	if want := has("ssse3") && has("sha_ni"); hasBlocks2 != want {
		t.Errorf("hasBlocks2 is %t, want %t by /proc/cpuinfo", hasBlocks2, want)
	}
}
