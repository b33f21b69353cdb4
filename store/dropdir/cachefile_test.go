package dropdir

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/update"
)

func TestWarmCache(t *testing.T) {
	dir, cache := t.TempDir(), filepath.Join(t.TempDir(), "a", "cache")
	one, two := mustName(t, "opq-box-update-1.tar.gz"), mustName(t, "opq-box-update-2.tar.gz")
	drop(t, dir, one.String(), "one")
	drop(t, dir, two.String(), "two")
	var checks atomic.Int32
	c := Config{Dir: dir, Cache: cache, Check: func(_ context.Context, f *os.File, n update.Name) ([]string, error) {
		checks.Add(1)
		if n == one {
			return []string{"no install_update.sh"}, nil
		}
		return nil, nil
	}}
	runUntil(t, mustOpen(t, c), func() bool { return checks.Load() == 2 })
	d := mustOpen(t, c)
	if !has(d, one, "one") || !has(d, two, "two") || d.Health().Pending != 0 {
		t.Errorf("not known at once: %+v", d.Catalog().Updates())
	}
	if w := d.Health().Warnings; len(w) != 1 || !strings.Contains(w[0], "no install_update.sh") {
		t.Errorf("warnings %q", w)
	}
	drop(t, dir, one.String(), "ONE") // while nobody looks
	d = mustOpen(t, c)
	runUntil(t, d, func() bool { return has(d, one, "ONE") })
	if !d.Replaced(one) || d.Replaced(two) || checks.Load() != 3 {
		t.Errorf("replaced %v %v, %d checks", d.Replaced(one), d.Replaced(two), checks.Load())
	}
	if err := errors.Join(os.Remove(filepath.Join(dir, one.String())), os.Remove(filepath.Join(dir, two.String()))); err != nil {
		t.Fatal(err)
	}
	if d = mustOpen(t, c); !d.Catalog().HadUpdates() || !d.Replaced(one) {
		t.Error("forgot its history")
	}
	c.Product = "other"
	if mustOpen(t, c).Catalog().HadUpdates() {
		t.Error("updates of another product count")
	}
}

func TestDamagedCacheIsDropped(t *testing.T) {
	dir, cache := t.TempDir(), t.TempDir()
	n := mustName(t, "opq-box-update-1.tar.gz")
	drop(t, dir, n.String(), "one")
	c := Config{Dir: dir, Cache: cache}
	d := mustOpen(t, c)
	runUntil(t, d, func() bool { return has(d, n, "one") })
	path := filepath.Join(cache, cacheFile)
	if err := os.Truncate(path, 40); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(cache, disk.TempPrefix+"left"), "")
	var log journal
	c.Logger = log.logger()
	d = mustOpen(t, c)
	if log.count("digest cache dropped") != 1 || d.Health().Pending != 1 {
		t.Errorf("not dropped: %+v", d.Health())
	}
	runUntil(t, d, func() bool { return has(d, n, "one") })
	if _, err := parseCache(read(t, path)); err != nil {
		t.Errorf("not made anew: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(cache, ".*")); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
	if err := os.Truncate(path, maxCache+1); err != nil {
		t.Fatal(err)
	}
	if mustOpen(t, c); log.count("at most") != 1 {
		t.Error("a cache without bounds was read")
	}
}

func TestCacheThatCannotBeSaved(t *testing.T) {
	dir, cache := t.TempDir(), t.TempDir()
	n := mustName(t, "opq-box-update-1.tar.gz")
	drop(t, dir, n.String(), "one")
	d := mustOpen(t, Config{Dir: dir, Cache: cache})
	full := true
	d.files.Hook = func(op disk.Op, _ string) (bool, error) {
		if full && op == disk.OpWrite {
			return false, syscall.ENOSPC
		}
		return true, nil
	}
	for range 2 {
		if err := d.saveCache(); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("got %v", err)
		}
	}
	if w := d.Health().Warnings; len(w) != 1 || !strings.Contains(w[0], "no space left") {
		t.Errorf("warnings %q", w)
	}
	full = false
	if err := d.saveCache(); err != nil || len(d.Health().Warnings) != 0 {
		t.Errorf("%v, warnings %q", err, d.Health().Warnings)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
