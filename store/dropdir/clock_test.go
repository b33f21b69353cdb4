package dropdir

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openpowerquality/box-update-server/update"
)

// unwatched makes a Dir without fsnotify, whose sockets would stop the clock of a synctest bubble.
func unwatched(tb testing.TB, c Config) *Dir {
	tb.Helper()
	d := mustOpen(tb, c)
	d.watch = func() (*watcher, error) { return nil, errors.New("no inotify instance left") }
	return d
}

// bubble runs a test with a clock of its own, on which real modification times lie in the future.
func bubble(t *testing.T, c Config, test func(d *Dir)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := unwatched(t, c)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- d.Run(ctx) }()
		synctest.Wait()
		test(d)
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func after(d time.Duration) {
	time.Sleep(d) // the bubble's clock
	synctest.Wait()
}

func seen(d *Dir) int {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return len(d.state.entries)
}

func TestPollWithoutAWatch(t *testing.T) {
	dir := t.TempDir()
	n := mustName(t, "opq-box-update-1.tar.gz")
	var log journal
	bubble(t, Config{Dir: dir, Logger: log.logger()}, func(d *Dir) {
		if w := d.Health().Warnings; len(w) != 1 || !strings.Contains(w[0], "no inotify instance left") || log.count("not watched") != 1 {
			t.Errorf("warnings %q", w)
		}
		write(t, filepath.Join(dir, n.String()), "one")
		if after(29 * time.Second); seen(d) != 0 {
			t.Error("looked before the poll")
		}
		if after(2 * time.Second); seen(d) != 1 || names(d) != "" {
			t.Errorf("%d files seen, listed %q", seen(d), names(d))
		}
		if after(1500 * time.Millisecond); !has(d, n, "one") {
			t.Errorf("not listed when it was still: %v", d.Catalog().Updates())
		}
		after(time.Hour)
		if log.count("not watched") != 1 {
			t.Error("logged again")
		}
	})
}

func TestAbsentDirectoryIsLoggedOnceAndFoundSoon(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "updates")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	drop(t, dir, "opq-box-update-1.tar.gz", "one")
	var log journal
	bubble(t, Config{Dir: dir, Logger: log.logger()}, func(d *Dir) {
		after(5 * time.Second)
		if err := os.Rename(dir, dir+"-away"); err != nil {
			t.Fatal(err)
		}
		after(10 * time.Minute)
		if log.count("can't be listed") != 1 || d.Health().Readable || names(d) != "" || !d.Catalog().HadUpdates() {
			t.Errorf("%d log lines, health %+v", log.count("can't be listed"), d.Health())
		}
		if err := os.Rename(dir+"-away", dir); err != nil {
			t.Fatal(err)
		}
		if after(3100 * time.Millisecond); !has(d, mustName(t, "opq-box-update-1.tar.gz"), "one") || !d.Health().Readable {
			t.Errorf("not found again: health %+v", d.Health())
		}
	})
}

func TestFileThatIsNotTheListedOneIsHashedAgainSoon(t *testing.T) {
	dir := t.TempDir()
	n := mustName(t, "opq-box-update-1.tar.gz")
	drop(t, dir, n.String(), "one")
	synctest.Test(t, func(t *testing.T) {
		d := unwatched(t, Config{Dir: dir, Poll: time.Hour})
		after(10 * time.Second)
		opened := 0
		d.open = func(n update.Name) (*os.File, error) {
			if opened++; opened == 1 { // the change time moves between listing and hashing
				if err := os.Chmod(filepath.Join(dir, n.String()), 0o600); err != nil {
					t.Error(err)
				}
			}
			return d.openFile(n)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- d.Run(ctx) }()
		if after(5 * time.Second); !has(d, n, "one") {
			t.Error("not hashed again")
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestCacheIsSavedNowAndThen(t *testing.T) {
	dir, cache := t.TempDir(), t.TempDir()
	n := mustName(t, "opq-box-update-1.tar.gz")
	drop(t, dir, n.String(), "one")
	bubble(t, Config{Dir: dir, Cache: cache}, func(d *Dir) {
		after(10 * time.Second)
		entries, err := parseCache(read(t, filepath.Join(cache, cacheFile)))
		if e := entries[n]; err != nil || e == nil || e.known.digest != update.Sum([]byte("one")) {
			t.Errorf("cache %v, %v", e, err)
		}
	})
}

func TestChecksEndWithRun(t *testing.T) {
	dir := t.TempDir()
	drop(t, dir, "opq-box-update-1.tar.gz", "one")
	drop(t, dir, "opq-box-update-2.tar.gz", "two")
	running := 0
	c := Config{Dir: dir, Check: func(ctx context.Context, _ *os.File, _ update.Name) ([]string, error) {
		running++
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	bubble(t, c, func(d *Dir) {
		if after(time.Minute); running != 1 || d.Health().Pending != 0 {
			t.Errorf("%d checks run at once, %d pending", running, d.Health().Pending)
		}
	})
}

func TestCheckThatFailsIsNotRepeated(t *testing.T) {
	dir := t.TempDir()
	drop(t, dir, "opq-box-update-1.tar.gz", "one")
	checks := 0
	var log journal
	c := Config{Dir: dir, Logger: log.logger(), Check: func(context.Context, *os.File, update.Name) ([]string, error) {
		checks++
		return nil, errors.New("out of scratch space")
	}}
	bubble(t, c, func(d *Dir) {
		if after(time.Hour); checks != 1 || log.count("out of scratch space") != 1 || len(d.Health().Warnings) != 1 {
			t.Errorf("%d checks, health %+v", checks, d.Health())
		}
	})
}
