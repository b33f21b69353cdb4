package dropdir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
)

func TestNoPermission(t *testing.T) {
	if testworld.AsNobody(t) {
		return
	}
	dir := filepath.Join(t.TempDir(), "updates")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	good, bad := mustName(t, "opq-box-update-1.tar.gz"), mustName(t, "opq-box-update-2.tar.gz")
	drop(t, dir, good.String(), "good")
	drop(t, dir, bad.String(), "bad")
	chmod := func(base string, mode os.FileMode) {
		t.Helper()
		if err := os.Chmod(filepath.Join(dir, base), mode); err != nil {
			t.Fatal(err)
		}
	}
	chmod(bad.String(), 0)
	var log journal
	d := mustOpen(t, watched(dir, &log))
	if w := d.Health().Warnings; names(d) != good.String() || len(w) != 1 || !strings.Contains(w[0], "permission denied") {
		t.Errorf("listed %q, warnings %q", names(d), w)
	}
	running(t, d)
	chmod(bad.String(), 0o644)
	eventually(t, func() bool { return has(d, good, "good") && has(d, bad, "bad") })
	for _, mode := range []os.FileMode{0, 0o444, 0o111} {
		failures := log.count("can't be listed")
		chmod("", mode)
		eventually(t, func() bool { return names(d) == "" && strings.Contains(d.Health().Error, "permission denied") })
		if _, err := Open(t.Context(), Config{Dir: dir}); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("mode %v: opened: %v", mode, err)
		}
		chmod("", 0o755)
		eventually(t, func() bool { return has(d, bad, "bad") && d.Health().Readable })
		if got := log.count("can't be listed") - failures; got < 1 || got > 2 {
			t.Errorf("mode %v: %d log lines", mode, got)
		}
	}
	if d.Replaced(good) || d.Replaced(bad) {
		t.Error("replaced by chmod")
	}
}

func TestFileThatBecomesUnreadableLeavesAtItsFirstUse(t *testing.T) {
	if testworld.AsNobody(t) {
		return
	}
	dir := t.TempDir()
	drop(t, dir, "opq-box-update-1.tar.gz", "one")
	d := mustOpen(t, Config{Dir: dir, Poll: time.Hour})
	u, _ := d.Catalog().Newest(time.Now())
	if err := os.Chmod(filepath.Join(dir, u.Name.String()), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Open(u); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("open: %v", err)
	}
	if _, err := d.Open(u); names(d) != "" || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("still listed: %q, %v", names(d), err)
	}
}
