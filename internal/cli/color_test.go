package cli

import "testing"

func TestPaintFact(t *testing.T) {
	for line, want := range map[string]string{
		"added: p-1.tar.gz":          green + "added: p-1.tar.gz" + plain,
		"file added: a (-rw-r--r--)": green + "file added: a (-rw-r--r--)" + plain,
		"file removed: a":            red + "file removed: a" + plain,
		"key removed: release 1":     red + "key removed: release 1" + plain,
		"withdrawn: p-1.tar.gz":      red + "withdrawn: p-1.tar.gz" + plain,
		"file changed: a":            yellow + "file changed: a" + plain,
		"warning: the list":          boldYellow + "warning: the list" + plain,
		"note: a warning: added":     "note: a warning: added",
		"state: published":           "state: published",
		"":                           "",
	} {
		if got := PaintFact(line); got != want {
			t.Errorf("%q: got %q, want %q", line, got, want)
		}
	}
}
