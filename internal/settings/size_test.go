package settings

import (
	"math"
	"testing"
)

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "500000": 500000, "5B": 5, "1k": 1000, "1K": 1000, "1kB": 1000, "1M": 1e6, "2MB": 2e6, "3G": 3e9, "4T": 4e12,
		"1Ki": 1024, "1KiB": 1024, "1Mi": 1 << 20, "2GiB": 2 << 30, "1Ti": 1 << 40, "9223372036854775807": math.MaxInt64, "8388607Ti": 8388607 << 40,
	} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("%q: got %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "k", "B", "-1", "+1", "1.5k", "1 k", "1m", "1ki", "1kib", "1BB", "1Bk", "1Mk", "1iB", "1b", "0x10", "1_000", "9223372036854775808",
		"8388608Ti", "9223373T", "1P",
	} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("%q: got %d, want an error", text, got)
		}
	}
}
