package dropdir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/update"
)

// watched returns the configuration of a Dir that has to be woken: its poll is far away.
func watched(dir string, log *journal) Config {
	return Config{Dir: dir, Still: 50 * time.Millisecond, Poll: time.Hour, Logger: log.logger()}
}

func TestLifeOfAFile(t *testing.T) {
	var log journal
	dir := t.TempDir()
	n := mustName(t, "opq-box-update-1.tar.gz")
	path := filepath.Join(dir, n.String())
	d := mustOpen(t, watched(dir, &log))
	running(t, d)
	if d.Catalog().HadUpdates() {
		t.Error("an empty directory had updates")
	}
	write(t, path, "one")
	eventually(t, func() bool { return has(d, n, "one") })
	if d.Replaced(n) {
		t.Error("replaced at its first sight")
	}
	u, _ := d.Catalog().Newest(time.Now())
	if err := appendTo(path, " and more"); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return has(d, n, "one and more") })
	if _, ok := d.Catalog().ByDigest(u.Digest); ok || !d.Replaced(n) {
		t.Errorf("old digest there: %v, replaced: %v", ok, d.Replaced(n))
	}
	eventually(t, func() bool { return log.count("left out until it is still") > 0 && log.count("was replaced") == 1 })
	if w := d.Health().Warnings; len(w) != 1 || !strings.Contains(w[0], "was replaced") {
		t.Errorf("warnings %q", w)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return names(d) == "" })
	if !d.Catalog().HadUpdates() {
		t.Error("forgot that it had updates")
	}
}

func TestFileThatGrowsAllTheTimeIsNotListed(t *testing.T) {
	var log journal
	dir := t.TempDir()
	path := filepath.Join(dir, "opq-box-update-1.tar.gz")
	c := watched(dir, &log)
	c.Still = time.Minute
	d := mustOpen(t, c)
	running(t, d)
	write(t, path, "")
	for i := range 10 {
		if err := appendTo(path, "more"); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() bool { // each change wakes a listing
			d.mu.RLock()
			defer d.mu.RUnlock()
			e := d.state.entries[mustName(t, "opq-box-update-1.tar.gz")]
			return e != nil && e.seen.Size == int64(4*(i+1))
		})
	}
	if names(d) != "" {
		t.Error("listed while it grows")
	}
}

func TestDirectoryVanishesAndComesBack(t *testing.T) {
	var log journal
	dir := filepath.Join(t.TempDir(), "updates")
	n := mustName(t, "opq-box-update-1.tar.gz")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	drop(t, dir, n.String(), "one")
	d := mustOpen(t, watched(dir, &log))
	running(t, d)
	eventually(t, func() bool { return has(d, n, "one") })
	hide := map[string]func() error{
		"moved":             func() error { return os.Rename(dir, dir+"-away") },
		"file in its place": func() error { return errors.Join(os.Rename(dir, dir+"-away"), os.WriteFile(dir, nil, 0o644)) },
		"link to itself":    func() error { return errors.Join(os.Rename(dir, dir+"-away"), os.Symlink(dir, dir)) },
	}
	for what, hide := range hide {
		failures, returns := log.count("can't be listed"), log.count("can be listed again")
		if err := hide(); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() bool { return !d.Health().Readable && names(d) == "" })
		if h := d.Health(); h.Error == "" || !d.Catalog().HadUpdates() {
			t.Errorf("%s: health %+v", what, h)
		}
		if _, err := os.Lstat(dir); err == nil {
			if err := os.Remove(dir); err != nil {
				t.Fatal(err)
			}
		}
		// Several polls fail meanwhile; only the first is logged, and a second where the error is another one.
		if err := os.Rename(dir+"-away", dir); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() bool { return has(d, n, "one") && d.Health().Readable })
		if got := log.count("can't be listed") - failures; got < 1 || got > 2 {
			t.Errorf("%s: %d log lines", what, got)
		}
		if got := log.count("can be listed again") - returns; got != 1 {
			t.Errorf("%s: %d log lines on return", what, got)
		}
	}
	if d.Replaced(n) {
		t.Error("replaced by being away")
	}
	// The watch is on the directory that came back: a new one is noticed long before the next poll.
	drop(t, dir, "opq-box-update-2.tar.gz", "two")
	eventually(t, func() bool { return has(d, mustName(t, "opq-box-update-2.tar.gz"), "two") })
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return names(d) == "" })
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	drop(t, dir, "opq-box-update-3.tar.gz", "three")
	eventually(t, func() bool { return has(d, mustName(t, "opq-box-update-3.tar.gz"), "three") })
}

func TestTransientErrorKeepsTheListing(t *testing.T) {
	dir := t.TempDir()
	drop(t, dir, "opq-box-update-1.tar.gz", "one")
	d := mustOpen(t, Config{Dir: dir})
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := syscall.Rlimit{Cur: 0, Max: limit.Max}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	_, err := d.list(t.Context())
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(err, syscall.EMFILE) {
		t.Fatalf("listing: %v", err)
	}
	if h := d.Health(); h.Readable || names(d) == "" {
		t.Errorf("health %+v, listed %q", h, names(d))
	}
}

func TestUnreadableBytes(t *testing.T) {
	dir := t.TempDir()
	good, bad := mustName(t, "opq-box-update-1.tar.gz"), mustName(t, "opq-box-update-2.tar.gz")
	drop(t, dir, good.String(), "good")
	drop(t, dir, bad.String(), "bad")
	d := mustOpen(t, Config{Dir: dir})
	d.open = func(n update.Name) (*os.File, error) {
		if n == bad { // a file that can be opened and gives an error at each read
			return os.OpenFile(filepath.Join(dir, n.String()), os.O_WRONLY, 0)
		}
		return d.openFile(n)
	}
	running(t, d)
	eventually(t, func() bool { return has(d, good, "good") && names(d) == good.String() })
	if h := d.Health(); len(h.Warnings) != 1 || !strings.Contains(h.Warnings[0], bad.String()) || h.Pending != 0 {
		t.Errorf("health %+v", h)
	}
}

func TestFileChangedWhileItIsHashed(t *testing.T) {
	dir := t.TempDir()
	n := mustName(t, "opq-box-update-1.tar.gz")
	path := filepath.Join(dir, n.String())
	drop(t, dir, n.String(), "before")
	d := mustOpen(t, Config{Dir: dir})
	task, _ := d.state.nextHash(time.Now())
	for name, change := range map[string]func() error{
		"same length": func() error { return os.WriteFile(path, []byte("BEFORE"), 0o644) },
		"shorter":     func() error { return os.Truncate(path, 1) },
		"longer":      func() error { return appendTo(path, "more") },
	} {
		t.Run(name, func(t *testing.T) {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			task.stamp, _ = stampOf(info)
			err = d.read(task, func(f *os.File) error {
				changed := change()
				_, _, _, err := update.Hash(t.Context(), io.LimitReader(f, task.stamp.Size), nil)
				return errors.Join(changed, err)
			})
			if !errors.Is(err, ErrChanged) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestRunEndsSoonInTheMiddleOfAFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "opq-box-update-1.tar.gz")
	write(t, path, "")
	if err := os.Truncate(path, 64<<30); err != nil {
		t.Fatal(err)
	}
	d := mustOpen(t, Config{Dir: dir, Still: time.Nanosecond})
	begun := make(chan struct{})
	d.open = func(n update.Name) (*os.File, error) {
		close(begun)
		return d.openFile(n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-begun; cancel() }()
	if err := d.Run(ctx); err != nil { // to read 64 GB takes longer than any test may
		t.Error(err)
	}
	if w := d.Health().Warnings; len(w) != 0 {
		t.Errorf("warnings %q", w)
	}
}

func TestTenThousandArchives(t *testing.T) {
	const count = 10_000
	dir := t.TempDir()
	fill(t, dir, count)
	drop(t, dir, "opq-box-update-x.tar.gz", "")
	d := mustOpen(t, Config{Dir: dir, Cache: t.TempDir()})
	if got := len(d.Catalog().Updates()); got != count {
		t.Fatalf("%d updates", got)
	}
	catalogs, start := map[*update.Catalog]bool{}, time.Now()
	runUntil(t, d, func() bool { catalogs[d.Catalog()] = true; return d.Health().Pending == 0 })
	for i, u := range d.Catalog().Updates() {
		if want := update.Sum(fmt.Appendf(nil, "archive %d", i)); u.Digest != want {
			t.Fatalf("%v has digest %v, want %v", u.Name, u.Digest, want)
		}
	}
	if took := time.Since(start); len(catalogs) > 10+2*int(took/publishEvery) {
		t.Errorf("%d catalogs on the way, in %v", len(catalogs), took)
	}
}

// TestRunAgain holds that nothing is lost between two runs, work that was interrupted included.
func TestRunAgain(t *testing.T) {
	var log journal
	dir, first, second := t.TempDir(), mustName(t, "opq-box-update-1.tar.gz"), mustName(t, "opq-box-update-2.tar.gz")
	drop(t, dir, first.String(), "one")
	c := watched(dir, &log)
	var checks atomic.Int32
	c.Check = func(ctx context.Context, _ *os.File, _ update.Name) ([]string, error) {
		if checks.Add(1) == 1 {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return []string{"has no spoon", "has no fork"}, nil
	}
	d := mustOpen(t, c)
	stop := running(t, d)
	eventually(t, func() bool { return checks.Load() == 1 })
	stop()
	drop(t, dir, second.String(), "two")
	running(t, d)
	eventually(t, func() bool { return has(d, first, "one") && has(d, second, "two") && len(d.Health().Warnings) == 2 })
	if log.count(`problems="has no spoon; has no fork"`) != 2 {
		t.Error("the log does not name the problems of each archive")
	}
}

// An archive whose check takes for ever does not keep those of others waiting.
func TestSlowCheck(t *testing.T) {
	var log journal
	dir, bomb, other := t.TempDir(), mustName(t, "opq-box-update-2.tar.gz"), mustName(t, "opq-box-update-1.tar.gz")
	drop(t, dir, bomb.String(), "bomb")
	drop(t, dir, other.String(), "other")
	c := watched(dir, &log)
	var tries atomic.Int32
	checked := make(chan struct{})
	c.Check = func(ctx context.Context, _ *os.File, n update.Name) ([]string, error) {
		if n == other {
			close(checked)
			return nil, nil
		}
		if tries.Add(1) == 1 {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		select {
		case <-checked:
			return []string{"is a bomb"}, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	d := mustOpen(t, c)
	d.quick = time.Millisecond
	running(t, d)
	eventually(t, func() bool { return log.count(`problems="is a bomb"`) == 1 })
	if n := tries.Load(); n != 2 {
		t.Errorf("the bomb was checked %d times, want 2", n)
	}
}
