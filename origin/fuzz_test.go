package origin

import (
	"bytes"
	"strings"
	"testing"
)

// FuzzFileName parses names of files: what is accepted prints as it came.
func FuzzFileName(f *testing.F) {
	digest := strings.Repeat("0123456789abcdef", 4)
	for _, seed := range []string{
		"18.targets." + digest + ".1772366400", "18.targets." + digest + ".1772366400.local", "18.targets." + digest + ".local", "18.targets." + digest + ".1.local.local",
		"1.root." + digest + ".0", "01.root." + digest + ".0", "0.root." + digest + ".0",
		"18.snapshot." + digest + ".1", "18.targets." + strings.ToUpper(digest) + ".1", "18.targets." + digest + ".+1", digest + ".blocks", "...", "",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := parseFileName(s)
		if err != nil {
			if n != (fileName{}) {
				t.Errorf("%q: expected nothing beside an error, got %+v", s, n)
			}
			return
		}
		if n.String() != s || n.version < 1 || strings.ContainsAny(s, "/\x00") {
			t.Errorf("%q: got %+v", s, n)
		}
	})
}

// FuzzSignedPart cuts files: what is found stands at the end, after the mark.
func FuzzSignedPart(f *testing.F) {
	for _, seed := range []string{`{"signatures":[],"signed":{"_type":"targets"}}`, `,"signed":`, `,"signed":,"signed":{}}`, `{"signed":{}}`, ""} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		part := signedPart(raw)
		if part == nil && bytes.Contains(raw, []byte(`,"signed":`)) && !bytes.HasSuffix(raw, []byte(`,"signed":`)) {
			t.Errorf("%q: expected a part", raw)
		}
		if !bytes.HasSuffix(raw, part) || sameContent(raw, nil) {
			t.Errorf("%q: got %q", raw, part)
		}
	})
}
