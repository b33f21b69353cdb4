package dropdir

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/update"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// journal is a log that a test can read while it is written.
type journal struct{ testworld.Log }

func (j *journal) count(text string) int { return strings.Count(j.String(), text) }

func (j *journal) logger() *slog.Logger { return slog.New(slog.NewTextHandler(j, nil)) }

func write(tb testing.TB, path, content string) {
	tb.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		tb.Fatal(err)
	}
}

// drop makes an archive that has been still for an hour.
func drop(tb testing.TB, dir, base, content string) {
	tb.Helper()
	temp := filepath.Join(dir, ".upload")
	write(tb, temp, content)
	old := time.Now().Add(-time.Hour).Truncate(time.Second)
	if err := errors.Join(os.Chtimes(temp, old, old), os.Rename(temp, filepath.Join(dir, base))); err != nil {
		tb.Fatal(err)
	}
}

func mustOpen(tb testing.TB, c Config) *Dir {
	tb.Helper()
	d, err := Open(tb.Context(), c)
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

// running starts Run and stops it at the end of the test.
func running(tb testing.TB, d *Dir) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			tb.Errorf("Run: %v", err)
		}
	})
	tb.Cleanup(stop)
	return stop
}

func names(d *Dir) string {
	var list []string
	for _, u := range d.Catalog().Updates() {
		list = append(list, u.Name.String())
	}
	return strings.Join(list, " ")
}

// has reports whether the catalog says that a name has these bytes.
func has(d *Dir, n update.Name, content string) bool {
	u, ok := d.Catalog().Lookup(n)
	return ok && u.Digest == update.Sum([]byte(content))
}

func TestWhatCounts(t *testing.T) {
	dir := t.TempDir()
	const good, other = "opq-box-update-10.tar.bz2", "opq-box-update-9.tar.gz"
	drop(t, dir, good, "good")
	drop(t, dir, other, "other")
	drop(t, dir, "opq-box-update-15.tar.gz", "")
	for _, base := range []string{"README", ".opq-box-update-1.tar.bz2", "opq-box-update-beta-3.tar.gz", "opq-box-update-1.zip",
		"OPQ-BOX-UPDATE-1.tar.bz2", "opq-box-update-1.tar.bz2.part", "x-opq-box-update-1.tar.bz2", "opq-box-update-11.tar.bz2~"} {
		drop(t, dir, base, "ignored")
	}
	odd := []string{"opq-box-update-latest.tar.bz2", "opq-box-update-01.tar.gz", "opq-box-update--1.tar.zst", "opq-box-update-\xff\n.tar.bz2",
		"opq-box-update-.tar.gz", "opq-box-update-1 (copy).tar.gz"}
	for _, base := range odd {
		drop(t, dir, base, "odd")
	}
	special := func(v string) string { return filepath.Join(dir, "opq-box-update-"+v+".tar.bz2") }
	if err := errors.Join(os.Symlink(good, special("11")), os.Symlink("/nowhere", special("12")), os.Mkdir(special("13"), 0o755),
		syscall.Mkfifo(special("14"), 0o644), os.Mkdir(special("oddly"), 0o755), os.Truncate(special("10"), 4)); err != nil {
		t.Fatal(err)
	}
	var log journal
	d := mustOpen(t, Config{Dir: dir, Still: time.Nanosecond, Logger: log.logger()})
	if got := names(d); got != other+" "+good {
		t.Errorf("listed: %s", got)
	}
	h := d.Health()
	const ignored = 4 + 2 // special files, and products
	if len(h.Warnings) != len(odd)+ignored+1 || !slices.Contains(h.Warnings, "opq-box-update-15.tar.gz left out, it is empty") || !h.Readable || h.Pending != 2 {
		t.Errorf("health %+v", h)
	}
	if got := log.count("file in the updates directory"); got != len(odd)+ignored {
		t.Errorf("%d log lines for odd names", got)
	}
	if _, err := d.list(t.Context()); err != nil || log.count("file in the updates directory") != len(odd)+ignored {
		t.Errorf("listed again: logged again (err %v)", err)
	}
}

// What looks like an archive and is ignored is named, in health and log, and a directory in which nothing else is left
// says so: the fleet would be offered an older version, or none.
func TestIgnoredArchivesAreNamed(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	const newest = "opq-box-update-12.tar.gz"
	drop(t, elsewhere, newest, "newest")
	if err := os.Symlink(filepath.Join(elsewhere, newest), filepath.Join(dir, newest)); err != nil {
		t.Fatal(err)
	}
	drop(t, dir, "other-box-3.tar.gz", "other")
	drop(t, dir, "other-box-4.tar.gz", "other")
	var log journal
	d := mustOpen(t, Config{Dir: dir, Still: time.Nanosecond, Logger: log.logger()})
	want := []string{
		`"opq-box-update-12.tar.gz" ignored: expected a regular file; it is a symbolic link: copy the archive, or link it with ln without -s`,
		`"other-box" is another product: 2 archives ignored, expected those of "opq-box-update"`,
	}
	if h := d.Health(); !slices.Equal(h.Warnings, want) || !h.Nothing {
		t.Errorf("health is %+v, want the warnings %q, and nothing left", h, want)
	}
	if got := log.count("file in the updates directory"); got != 2 {
		t.Errorf("%d lines in the log, want 2", got)
	}
	drop(t, dir, "opq-box-update-11.tar.gz", "older")
	if _, err := d.list(t.Context()); err != nil {
		t.Fatal(err)
	}
	if h := d.Health(); !slices.Equal(h.Warnings, want) || h.Nothing {
		t.Errorf("beside an older archive health is %+v", h)
	}
}

// An empty directory is one that waits for its first archive.
func TestEmptyDirectoryIsWell(t *testing.T) {
	if h := mustOpen(t, Config{Dir: t.TempDir()}).Health(); h.Nothing || len(h.Warnings) > 0 {
		t.Errorf("health is %+v", h)
	}
}

func TestOpenRefusesWhatIsNoDirectory(t *testing.T) {
	dir := t.TempDir()
	file, fifo := filepath.Join(dir, "file"), filepath.Join(dir, "fifo")
	write(t, file, "")
	if err := syscall.Mkfifo(fifo, 0o644); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		c    Config
		want error
	}{
		"missing":             {Config{Dir: filepath.Join(dir, "missing")}, fs.ErrNotExist},
		"file":                {Config{Dir: file}, syscall.ENOTDIR},
		"fifo":                {Config{Dir: fifo}, syscall.ENOTDIR},
		"empty":               {Config{}, fs.ErrNotExist},
		"directory of a file": {Config{Dir: filepath.Join(file, "x")}, syscall.ENOTDIR},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := Open(t.Context(), tt.c); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
	if _, err := Open(t.Context(), Config{Dir: dir, Product: "../x"}); err == nil || !strings.Contains(err.Error(), "product") {
		t.Errorf("bad product: %v", err)
	}
	if _, err := Open(t.Context(), Config{Dir: dir, Cache: file}); err == nil || !strings.Contains(err.Error(), "digest cache") {
		t.Errorf("cache is a file: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, Config{Dir: dir}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

func TestCatalogPointerChangesWithTheDirectoryOnly(t *testing.T) {
	dir := t.TempDir()
	drop(t, dir, "opq-box-update-1.tar.gz", "one")
	d := mustOpen(t, Config{Dir: dir})
	first := d.Catalog()
	drop(t, dir, "README", "no archive")
	if _, err := d.list(t.Context()); err != nil || d.Catalog() != first {
		t.Errorf("another catalog, err %v", err)
	}
	drop(t, dir, "opq-box-update-2.tar.gz", "two")
	if _, err := d.list(t.Context()); err != nil || d.Catalog() == first {
		t.Errorf("the same catalog, err %v", err)
	}
}

func TestOpenFile(t *testing.T) {
	const base = "opq-box-update-5.tar.bz2"
	tests := map[string]struct {
		change func(path string) error
		want   error
	}{
		"untouched":      {func(string) error { return nil }, nil},
		"removed":        {os.Remove, fs.ErrNotExist},
		"appended":       {func(p string) error { return appendTo(p, "!") }, ErrChanged},
		"touched":        {func(p string) error { return os.Chtimes(p, time.Time{}, time.Now()) }, ErrChanged},
		"chmod":          {func(p string) error { return os.Chmod(p, 0o600) }, ErrChanged},
		"symlink":        {func(p string) error { return errors.Join(os.Rename(p, p+"x"), os.Symlink(p+"x", p)) }, ErrChanged},
		"fifo":           {func(p string) error { return errors.Join(os.Remove(p), syscall.Mkfifo(p, 0o644)) }, ErrChanged},
		"directory":      {func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o755)) }, ErrChanged},
		"renamed over":   {func(p string) error { drop(t, filepath.Dir(p), base, "bytes"); return nil }, ErrChanged},
		"directory gone": {func(p string) error { return os.Rename(filepath.Dir(p), filepath.Dir(p)+"-moved") }, fs.ErrNotExist},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "updates")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			drop(t, dir, base, "bytes")
			d := mustOpen(t, Config{Dir: dir})
			u, _ := d.Catalog().Newest(time.Now())
			if err := tt.change(filepath.Join(dir, base)); err != nil {
				t.Fatal(err)
			}
			f, err := d.Open(u)
			if !errors.Is(err, tt.want) || errors.Is(err, ErrChanged) != errors.Is(tt.want, ErrChanged) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if poked := len(d.wake) == 1; poked != (err != nil) {
				t.Errorf("asked to list again: %v", poked)
			}
			if err != nil {
				return
			}
			defer f.Close()
			if b, err := io.ReadAll(f); string(b) != "bytes" || err != nil {
				t.Errorf("read %q, %v", b, err)
			}
		})
	}
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

func TestOpenOfAnOldCatalog(t *testing.T) {
	dir := t.TempDir()
	drop(t, dir, "opq-box-update-1.tar.gz", "one")
	d := mustOpen(t, Config{Dir: dir})
	pending, _ := d.Catalog().Newest(time.Now())
	if _, err := d.Blocks(pending); !errors.Is(err, ErrPending) {
		t.Errorf("blocks before hashing: %v", err)
	}
	runUntil(t, d, func() bool { return has(d, pending.Name, "one") })
	known, _ := d.Catalog().Newest(time.Now())
	for _, u := range []update.Update{pending, known} {
		f, err := d.Open(u)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	if blocks, err := d.Blocks(known); err != nil || len(blocks) != 1 || blocks[0] != known.Digest {
		t.Errorf("blocks %v, %v", blocks, err)
	}
	drop(t, dir, "opq-box-update-1.tar.gz", "two")
	if _, err := d.list(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Open(known); !errors.Is(err, ErrChanged) {
		t.Errorf("open of the old digest: %v", err)
	}
	if _, err := d.Blocks(known); !errors.Is(err, ErrChanged) {
		t.Errorf("blocks of the old digest: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "opq-box-update-1.tar.gz")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.list(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Blocks(known); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("blocks of a file that is gone: %v", err)
	}
}

func TestTooLargeFileIsLeftOut(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "opq-box-update-1.tar.gz")
	write(t, path, "")
	if err := os.Truncate(path, update.MaxLength+1); err != nil {
		t.Skip("the file system has no sparse files of 1 TiB: ", err)
	}
	d := mustOpen(t, Config{Dir: dir, Still: time.Nanosecond})
	if w := d.Health().Warnings; names(d) != "" || len(w) != 1 || !strings.Contains(w[0], "left out") {
		t.Errorf("listed %q, warnings %q", names(d), w)
	}
}
