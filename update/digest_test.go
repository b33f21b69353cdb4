package update_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/openpowerquality/box-update-server/update"
)

func TestParseDigestRefuses(t *testing.T) {
	refuses(t, update.ParseDigest, []refusal[string]{
		{"empty", "", `digest "": expected 64 hex digits, got 0 bytes`},
		{"a digit short", goodDigest[1:], `digest "` + goodDigest[1:] + `": expected 64 hex digits, got 63 bytes`},
		{"a digit more", goodDigest + "0", `digest "` + goodDigest + `0": expected 64 hex digits, got 65 bytes`},
		{"upper case", replaceAt(goodDigest, 0, 'E'), `digest "E` + goodDigest[1:] + `": expected lower-case hex digits, got 'E' at byte 0`},
		{"not hex", replaceAt(goodDigest, 63, 'g'), `digest "` + goodDigest[:63] + `g": expected lower-case hex digits, got 'g' at byte 63`},
		{"below the digits", replaceAt(goodDigest, 9, '/'), `digest "e3b0c4429/fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855": expected lower-case hex digits, got '/' at byte 9`},
		{"NUL", replaceAt(goodDigest, 63, 0), `digest "` + goodDigest[:63] + `\x00": expected lower-case hex digits, got '\x00' at byte 63`},
		{"newline behind", goodDigest + "\n", `digest "` + goodDigest + `\n": expected 64 hex digits, got 65 bytes`},
		{"4 kB", strings.Repeat("0", 4096), `digest "` + strings.Repeat("0", 80) + `"…: expected 64 hex digits, got 4096 bytes`},
	})
}

func TestDigest(t *testing.T) {
	d := must(t, update.ParseDigest, goodDigest)
	if d.String() != goodDigest {
		t.Errorf("String is %s, want %s", d, goodDigest)
	}
	if want := update.Sum(nil); d != want {
		t.Errorf("the digest of nothing is %v, want %v", d, want)
	}
	if d.IsZero() {
		t.Errorf("%v is the zero Digest", d)
	}
	if zero := (update.Digest{}); !zero.IsZero() {
		t.Errorf("the zero Digest is none")
	}
}

func TestDigestJSON(t *testing.T) {
	var d update.Digest
	text := `"` + goodDigest + `"`
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		t.Fatal(err)
	}
	if b, err := json.Marshal(d); string(b) != text || err != nil {
		t.Errorf("JSON is %s, %v, want %s", b, err, text)
	}
	err := json.Unmarshal([]byte(strings.ToUpper(text)), &d)
	if err == nil || !strings.Contains(err.Error(), "expected lower-case hex digits") {
		t.Errorf("error for upper case is %v", err)
	}
	if d.String() != goodDigest {
		t.Errorf("a refused digest changed the value to %v", d)
	}
}

func FuzzParseDigest(f *testing.F) {
	f.Add(goodDigest)
	f.Add(strings.ToUpper(goodDigest))
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		d, err := update.ParseDigest(s)
		if err == nil && d.String() != s {
			t.Errorf("%q prints as %q", s, d)
		}
	})
}
