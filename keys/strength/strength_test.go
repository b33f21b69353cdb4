package strength_test

import (
	"strings"
	"testing"

	"github.com/openpowerquality/box-update-server/keys/strength"
	"github.com/openpowerquality/box-update-server/status"
)

func TestWeak(t *testing.T) {
	for passphrase, want := range map[string]string{
		"x":                        "it is short; a thief of the file would find it within two minutes",
		"jX9#k":                    "it is short; a thief of the file would find it within ",
		"demonstration":            "common words",
		"correct-horse":            "common words, names or passwords; a thief of the file would find it within ",
		"Password2026!":            "common words",
		"boxsign-update":           "common words",
		"пароль":                   "a thief of the file would find it within ",
		"привет":                   "a thief of the file would find it within ",
		"пароль123":                "a thief of the file would find it within ",
		"いろは":                      "a thief of the file would find it within ",
		"qwertyuiop":               "common words",
		"zaqwsxcderfv":             "common words",
		"vfrtgbnhy":                "side by side",
		strings.Repeat("y", 4096):  "it repeats itself",
		strings.Repeat("ab1", 40):  "it repeats itself",
		strings.Repeat("\xff", 40): "it is short",
	} {
		err := strength.Check([]byte(passphrase))
		if err == nil || !strings.Contains(err.Error(), "too weak: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: got %v, want %q", passphrase, err, want)
			continue
		}
		if len(passphrase) > 1 && strings.Contains(err.Error(), passphrase) {
			t.Errorf("%.20q: shown in %v", passphrase, err)
		}
		if hints := status.Hints(err); len(hints) != 1 || !strings.Contains(hints[0], "--weak-passphrase") {
			t.Errorf("%.20q: got hints %q", passphrase, hints)
		}
	}
}

func TestStrong(t *testing.T) {
	for _, passphrase := range []string{
		"mosaic-Tulip-93-harbor", "mosaic tulip harbor", "jX9#kLq2vW", "grüße-Über-Öl-93",
		"mosaic-Tulip-93-harbor" + strings.Repeat("x", 4000),
		strings.Repeat("a", 40) + "mosaic-Tulip-93-harbor",
	} {
		if err := strength.Check([]byte(passphrase)); err != nil {
			t.Errorf("%.20q: %v", passphrase, err)
		}
	}
}

// FuzzCheck holds that no passphrase ends the program, and that none is shown.
func FuzzCheck(f *testing.F) {
	for _, s := range []string{"", "x", "correct horse battery staple", "11.12.1993", "\xff\xfe", "ÄÖÜ äöü ẞ", "aaaa1234qwer", strings.Repeat("ab", 60)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, passphrase []byte) {
		err := strength.Check(passphrase)
		if err != nil && len(passphrase) > 20 && strings.Contains(err.Error(), string(passphrase)) {
			t.Errorf("shown: %v", err)
		}
	})
}
