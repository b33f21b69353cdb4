package update

import (
	"bytes"
	"crypto/sha256"
	"testing"
)

func TestSumWith(t *testing.T) {
	data := bytes.Repeat([]byte("a block of an archive, "), 10_000)
	for _, cut := range []int{0, 1, 63, 64, 65, 4096, len(data)} {
		whole := sha256.New()
		if got, want := SumWith(whole, data[:cut]), Sum(data[:cut]); got != want {
			t.Errorf("first %d bytes: digest %v, want %v", cut, got, want)
		}
		if got, want := SumWith(whole, data[cut:]), Sum(data[cut:]); got != want {
			t.Errorf("after %d bytes: digest %v, want %v", cut, got, want)
		}
		if got, want := Digest(whole.Sum(nil)), Sum(data); got != want {
			t.Errorf("cut after %d bytes: whole %v, want %v", cut, got, want)
		}
	}
}
