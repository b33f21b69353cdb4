package update_test

import (
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/openpowerquality/box-update-server/update"
)

func TestParseVersionRefuses(t *testing.T) {
	refuses(t, update.ParseVersion, []refusal[string]{
		{"empty", "", `version "": expected 1 to 32 digits, got 0 bytes`},
		{"33 digits", strings.Repeat("1", 33), `version "` + strings.Repeat("1", 33) + `": expected 1 to 32 digits, got 33 bytes`},
		{"leading zero", "01550190683", `version "01550190683": expected no leading zero`},
		{"two zeros", "00", `version "00": expected no leading zero`},
		{"sign", "+1550190683", `version "+1550190683": expected decimal digits, got '+' at byte 0`},
		{"minus", "-1", `version "-1": expected decimal digits, got '-' at byte 0`},
		{"hex", "155019068a", `version "155019068a": expected decimal digits, got 'a' at byte 9`},
		{"point", "1.5", `version "1.5": expected decimal digits, got '.' at byte 1`},
		{"underscore", "1_5", `version "1_5": expected decimal digits, got '_' at byte 1`},
		{"space", "1 ", `version "1 ": expected decimal digits, got ' ' at byte 1`},
		{"digits of another script", "١", `version "١": expected decimal digits, got '١' at byte 0`},
	})
}

func TestParseVersionAccepts(t *testing.T) {
	for _, s := range []string{"0", "1", "9", "10", "1550190683", strings.Repeat("9", 32)} {
		if v := must(t, update.ParseVersion, s); v.String() != s || v.IsZero() {
			t.Errorf("version %s is %v, zero %t", s, v, v.IsZero())
		}
	}
}

func TestVersionAt(t *testing.T) {
	for _, c := range []struct {
		at   time.Time
		want string
	}{
		{time.Unix(1550190683, 999999999), "1550190683"},
		{time.Unix(0, 0), "0"},
		{time.Unix(-1, 0), "0"},
		{time.Time{}, "0"},
	} {
		if got := update.VersionAt(c.at); got.String() != c.want {
			t.Errorf("version at %v is %v, want %s", c.at, got, c.want)
		}
	}
}

func TestVersionJSON(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"1550190683", "1550190683"},
		{"null", "null"},
		{"0", "0"},
		{"01", "invalid character '1' after top-level value"},
		{"1e3", `version "1e3": expected decimal digits, got 'e' at byte 1`},
		{"-1", `version "-1": expected decimal digits, got '-' at byte 0`},
		{"1.0", `version "1.0": expected decimal digits, got '.' at byte 1`},
		{`"1"`, `version "\"1\"": expected decimal digits, got '"' at byte 0`},
		{"[]", `version "[]": expected decimal digits, got '[' at byte 0`},
	} {
		got := func() string {
			v := update.VersionAt(time.Unix(7, 0))
			if err := json.Unmarshal([]byte(c.in), &v); err != nil {
				return err.Error()
			}
			b, err := json.Marshal(v)
			if err != nil {
				return err.Error()
			}
			return string(b)
		}()
		if got != c.want {
			t.Errorf("JSON %s gives %s, want %s", c.in, got, c.want)
		}
	}
}

// versions draws versions that often share a length or a beginning.
func versions() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.StringMatching(`[1-9][0-9]{0,31}`),
		rapid.StringMatching(`[1-9]?[0-9]`),
		rapid.StringMatching(`15501906[0-9]{2}`),
	)
}

func TestVersionsCompareAsNumbers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := versions().Draw(t, "a"), versions().Draw(t, "b")
		v, err := update.ParseVersion(a)
		if err != nil {
			t.Fatal(err)
		}
		w, err := update.ParseVersion(b)
		if err != nil {
			t.Fatal(err)
		}
		x, _ := new(big.Int).SetString(a, 10)
		y, _ := new(big.Int).SetString(b, 10)
		if got, want := v.Compare(w), x.Cmp(y); got != want {
			t.Errorf("%s compares to %s as %d, want %d", a, b, got, want)
		}
		var none update.Version
		if none.Compare(v) != -1 || v.Compare(none) != 1 || none.Compare(none) != 0 {
			t.Errorf("no version is not less than %s alone", a)
		}
	})
}

func FuzzParseVersion(f *testing.F) {
	for _, s := range []string{"0", "1550190683", "01", "-1", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := update.ParseVersion(s)
		if err == nil && v.String() != s {
			t.Errorf("%q prints as %q", s, v)
		}
	})
}
