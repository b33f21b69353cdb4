package update_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/openpowerquality/box-update-server/update"
)

func TestParseProductRefuses(t *testing.T) {
	const shape = `: expected a letter first, a letter or digit last, and no ".."`
	const letters = `: expected lower-case letters, digits, '-', '_' and '.', got `
	refuses(t, update.ParseProduct, []refusal[string]{
		{"empty", "", `product "": expected 1 to 100 bytes, got 0`},
		{"101 bytes", strings.Repeat("a", 101), `product "` + strings.Repeat("a", 80) + `"…: expected 1 to 100 bytes, got 101`},
		{"upper case", "opq-Box-update", `product "opq-Box-update"` + letters + `'B' at byte 4`},
		{"slash", "opq/box", `product "opq/box"` + letters + `'/' at byte 3`},
		{"backslash", `opq\box`, `product "opq\\box"` + letters + `'\\' at byte 3`},
		{"percent", "opq%2fbox", `product "opq%2fbox"` + letters + `'%' at byte 3`},
		{"space", "opq box", `product "opq box"` + letters + `' ' at byte 3`},
		{"NUL", "opq\x00box", `product "opq\x00box"` + letters + `'\x00' at byte 3`},
		{"not ASCII", "öpq", `product "öpq"` + letters + `'ö' at byte 0`},
		{"dot first", ".opq", `product ".opq"` + shape},
		{"digit first", "4opq", `product "4opq"` + shape},
		{"dash first", "-opq", `product "-opq"` + shape},
		{"dash last", "opq-", `product "opq-"` + shape},
		{"dot last", "opq.", `product "opq."` + shape},
		{"underscore last", "opq_", `product "opq_"` + shape},
		{"two dots", "opq..box", `product "opq..box"` + shape},
	})
}

func TestParseProductAccepts(t *testing.T) {
	for _, s := range []string{"a", "opq-box-update", "a--b__c.d9", "box4", "x.tar.gz", strings.Repeat("a", 100)} {
		if p := must(t, update.ParseProduct, s); string(p) != s {
			t.Errorf("product %s is %s", s, p)
		}
	}
	if p := must(t, update.ParseProduct, string(update.DefaultProduct)); p != update.DefaultProduct {
		t.Errorf("the default product is %s", p)
	}
}

func TestParseFormatRefuses(t *testing.T) {
	refuses(t, update.ParseFormat, []refusal[string]{
		{"empty", "", `format "": expected tar.bz2, tar.gz or tar.zst`},
		{"dot first", ".tar.bz2", `format ".tar.bz2": expected tar.bz2, tar.gz or tar.zst`},
		{"upper case", "tar.BZ2", `format "tar.BZ2": expected tar.bz2, tar.gz or tar.zst`},
		{"unknown", "tar.xz", `format "tar.xz": expected tar.bz2, tar.gz or tar.zst`},
		{"not compressed", "tar", `format "tar": expected tar.bz2, tar.gz or tar.zst`},
	})
}

func TestParseNameRefuses(t *testing.T) {
	const shape = `: expected <product>-<version>.tar.bz2, .tar.gz or .tar.zst`
	refuses(t, update.ParseName, []refusal[string]{
		{"empty", "", `name ""` + shape},
		{"no format", "opq-box-update-1550190683", `name "opq-box-update-1550190683"` + shape},
		{"upper-case format", "opq-box-update-1550190683.tar.BZ2", `name "opq-box-update-1550190683.tar.BZ2"` + shape},
		{"partial upload", goodName + ".part", `name "` + goodName + `.part"` + shape},
		{"newline behind", goodName + "\n", `name "` + goodName + `\n"` + shape},
		{"no dash", "update1550190683.tar.bz2", `name "update1550190683.tar.bz2"` + shape},
		{"format only", ".tar.bz2", `name ".tar.bz2"` + shape},
		{"no product", "-1550190683.tar.bz2", `name "-1550190683.tar.bz2": product "": expected 1 to 100 bytes, got 0`},
		{"no version", "opq-box-update-.tar.bz2", `name "opq-box-update-.tar.bz2": version "": expected 1 to 32 digits, got 0 bytes`},
		{"leading zero", "opq-box-update-01.tar.bz2", `name "opq-box-update-01.tar.bz2": version "01": expected no leading zero`},
		{"negative version", "opq-box-update--1.tar.bz2", `name "opq-box-update--1.tar.bz2": product "opq-box-update-": expected a letter first, a letter or digit last, and no ".."`},
		{"parent directory", "../" + goodName, `name "../` + goodName + `": product "../opq-box-update": expected lower-case letters, digits, '-', '_' and '.', got '/' at byte 2`},
		{"dotfile", "." + goodName, `name ".` + goodName + `": product ".opq-box-update": expected a letter first, a letter or digit last, and no ".."`},
		{"upper-case product", "O" + goodName[1:], `name "O` + goodName[1:] + `": product "Opq-box-update": expected lower-case letters, digits, '-', '_' and '.', got 'O' at byte 0`},
		{"a byte too long", "p" + longest(), `name "` + strings.Repeat("p", 80) + `"…: expected at most 141 bytes, got 142`},
	})
}

func TestNameParts(t *testing.T) {
	for _, c := range []struct{ in, product, version, format, top string }{
		{goodName, "opq-box-update", "1550190683", "tar.bz2", "opq-box-update-1550190683"},
		{"a-1-2.tar.gz", "a-1", "2", "tar.gz", "a-1-2"},
		{"x.tar.gz-1.tar.zst", "x.tar.gz", "1", "tar.zst", "x.tar.gz-1"},
		{longest(), strings.Repeat("p", 100), strings.Repeat("9", 32), "tar.bz2", strings.TrimSuffix(longest(), ".tar.bz2")},
	} {
		n := must(t, update.ParseName, c.in)
		got := []string{string(n.Product()), n.Version().String(), string(n.Format()), n.Top(), n.String()}
		want := []string{c.product, c.version, c.format, c.top, c.in}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("parts of %s are %q, want %q", c.in, got, want)
		}
		if same := update.NewName(n.Product(), n.Version(), n.Format()); same != n {
			t.Errorf("put together again %v is %v", n, same)
		}
	}
	if zero := (update.Name{}); !zero.IsZero() || zero.String() != "" {
		t.Errorf("the zero Name is %q, zero %t", zero, zero.IsZero())
	}
}

func TestNameOrder(t *testing.T) {
	ascending := []string{
		"a-9.tar.bz2",
		"a-10.tar.zst", "a-10.tar.gz", "a-10.tar.bz2",
		"a-999999999.tar.bz2", "a-1547861057.tar.zst",
		"a-b-1.tar.zst",
		"b-1.tar.bz2",
	}
	for i, a := range ascending {
		for j, b := range ascending {
			got := must(t, update.ParseName, a).Compare(must(t, update.ParseName, b))
			if want := min(1, max(-1, i-j)); got != want {
				t.Errorf("%s compares to %s as %d, want %d", a, b, got, want)
			}
		}
	}
}

func TestNameJSON(t *testing.T) {
	var n update.Name
	if err := json.Unmarshal([]byte(`"`+goodName+`"`), &n); err != nil {
		t.Fatal(err)
	}
	if b, err := json.Marshal(n); string(b) != `"`+goodName+`"` || err != nil {
		t.Errorf("JSON is %s, %v", b, err)
	}
	err := json.Unmarshal([]byte(`"../`+goodName+`"`), &n)
	if err == nil || !strings.Contains(err.Error(), `got '/' at byte 2`) {
		t.Errorf("error for a path is %v", err)
	}
	if n.String() != goodName {
		t.Errorf("a refused name changed the value to %v", n)
	}
}

func FuzzParseProduct(f *testing.F) {
	for _, s := range []string{"opq-box-update", "..", "a..b", "A", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := update.ParseProduct(s)
		if err != nil {
			return
		}
		if string(p) != s {
			t.Errorf("%q prints as %q", s, p)
		}
		if strings.ContainsAny(s, "/\\\x00") || strings.Contains(s, "..") || len(s) > 100 {
			t.Errorf("%q is accepted", s)
		}
	})
}

func FuzzParseFormat(f *testing.F) {
	for _, s := range []string{"tar.bz2", "tar.gz", "tar.zst", "tar", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := update.ParseFormat(s)
		if err == nil && string(p) != s {
			t.Errorf("%q prints as %q", s, p)
		}
	})
}

func FuzzParseName(f *testing.F) {
	for _, s := range []string{goodName, "a-1-2.tar.gz", "x.tar.gz-1.tar.zst", "../" + goodName, goodName + ".part", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := update.ParseName(s)
		if err != nil {
			return
		}
		if n.String() != s {
			t.Errorf("%q prints as %q", s, n)
		}
		if strings.Contains(s, "/") || strings.HasPrefix(s, ".") || len(s) > 141 {
			t.Errorf("%q is accepted", s)
		}
		if same := update.NewName(n.Product(), n.Version(), n.Format()); same != n {
			t.Errorf("%q is put together as %q", s, same)
		}
	})
}
