package mirror

import (
	"slices"
	"strings"
	"testing"
)

func FuzzParseVia(f *testing.F) {
	const id = "00112233445566ff"
	for _, s := range []string{"", id, id + ", " + id, id + "," + id, id[1:], strings.ToUpper(id), strings.Repeat(id+", ", maxVia) + id} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ids := parseVia(s)
		if ids == nil {
			return
		}
		if got := formatVia(ids[0], ids[1:]); got != s || len(ids) > maxVia {
			t.Errorf("%q: %d IDs, printed as %q", s, len(ids), got)
		}
	})
}

func TestFormatViaIsBounded(t *testing.T) {
	const id = "00112233445566ff"
	if got := parseVia(formatVia(id, slices.Repeat([]string{id}, 99))); len(got) != maxVia {
		t.Errorf("expected %d IDs, got %v", maxVia, got)
	}
}
