// Package dropdir serves a plain directory into which somebody drops archives: as a catalog of
// updates, and as a source of their bytes. The directory is only ever read.
//
// # Which files count
//
// A file counts where its base name is the name of an update of the configured product and where it
// is a regular file. Everything else is ignored, and told where it looks like an archive: other names, dotfiles, symbolic links, directories,
// FIFOs, devices. A name that looks like one of the product's but does not parse
// (opq-box-update-latest.tar.bz2) gets a warning and disturbs nothing else.
//
// A file is listed once its size and modification time have been still for Config.Still: at once
// where the modification time is older than that, otherwise after two looks that far apart. The
// looks alone decide where the modification time lies in the future and where the file was seen
// changing. A listed file that changes leaves the catalog until it is still again. An empty file does
// not count: it is an upload of which nothing has come yet.
//
// # Digests
//
// Digest and block list are computed in the background, two files at a time, the newest version
// first. An update without a digest is in the catalog already and can be served by name. A file is
// told from its successor by inode, size, modification time and change time; the device is left
// out, since network and overlay file systems get another number at every mount. Only where all four
// are the same before and after reading is the digest believed.
//
// # Replaced files
//
// A name should never stand for other bytes. Where somebody replaces a file all the same, the old
// digest leaves the catalog, a warning says so, and Replaced tells it ever after, so that a client
// which resumes a download by name gets the whole file instead of two halves of different ones. A
// file of which only the times changed (touch, chmod) is hashed again and counts as replaced only if
// the digest differs or the old one was never learned.
//
// # Signatures
//
// A file U.sig beside an archive U, of 64 bytes, is kept at hand as its detached signature; see package
// signing. Nobody verifies it here.
//
// # Failures
//
// A directory that is gone or can't be read has no updates that could be served: the catalog becomes
// empty, remembers that it had some, and fills again when the directory is back. An error that does
// not speak of the directory (too many open files) leaves the last listing as it is. A file that
// can't be read is left out, so that the newest update which clients see is one that they can have;
// it is tried again when its metadata change, and otherwise after a minute, then two, up to an hour,
// and comes back once it has been read in whole.
//
// # Cache
//
// With Config.Cache, what was learned of each file is kept in the file digests.json in that
// directory; see cacheDocument for its format. It is never trusted: a damaged cache is dropped and made anew.
package dropdir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/update"
)

// ErrPending says that an update has not been hashed yet. The caller should come back later.
var ErrPending = errors.New("not hashed yet")

// ErrChanged says that a file no longer holds the bytes that the catalog listed. Those bytes are gone,
// so it is an fs.ErrNotExist as well.
var ErrChanged = fmt.Errorf("file changed since it was listed: %w", fs.ErrNotExist)

// Config says which directory is served and how. Only Dir is required.
type Config struct {
	Dir     string         // the directory with the archives
	Product update.Product // whose updates count; zero: update.DefaultProduct

	// Cache is a directory for the digest cache and nothing else, made if missing, of which this is
	// the only writer. Empty: nothing is kept, and every start hashes everything.
	Cache string

	Still  time.Duration // how long a file must have been still to count; 0: 2 s
	Poll   time.Duration // how often to look without being woken; 0: 30 s
	Logger *slog.Logger  // nil: no log

	// Check looks into an archive and returns what is improper about it, nil for nothing. It is
	// called with the file at offset 0, once for each archive, one at a time, after all hashing, and
	// must return soon after ctx ends. It does not close f. Nil: no check.
	Check func(ctx context.Context, f *os.File, n update.Name) (problems []string, err error)
}

func (c Config) withDefaults() (Config, error) {
	if c.Product == "" {
		c.Product = update.DefaultProduct
	}
	if _, err := update.ParseProduct(string(c.Product)); err != nil {
		return Config{}, err
	}
	if c.Still == 0 {
		c.Still = 2 * time.Second
	}
	if c.Poll == 0 {
		c.Poll = 30 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// Dir is a directory of archives. Its methods are safe for concurrent use.
type Dir struct {
	c       Config
	catalog atomic.Pointer[update.Catalog]
	wake    chan struct{} // holds one request to list again
	files   disk.FS
	open    func(update.Name) (*os.File, error)
	watch   func() (*watcher, error)
	quick   time.Duration // how long a check may keep others waiting

	mu      sync.RWMutex
	state   *state
	health  *Health // of the state as it is; nil: has to be made
	saveGap time.Duration
}

// Open lists the directory once, without hashing anything. What is not a directory that can be read
// is refused. The caller then runs Run; until then the catalog stays as it is.
func Open(ctx context.Context, c Config) (*Dir, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	d := &Dir{c: c, wake: make(chan struct{}, 1), quick: quickCheck, state: newState(c)}
	d.open, d.watch = d.openFile, d.newWatcher
	if err := d.loadCache(); err != nil {
		return nil, err
	}
	if err := d.list(ctx); err != nil {
		return nil, fmt.Errorf("updates directory: %w", err)
	}
	d.c.Logger.Info("updates directory listed", "dir", c.Dir, "updates", len(d.Catalog().Updates()),
		"pending", d.Health().Pending)
	return d, nil
}

// Catalog returns the updates as of the last change: the same pointer until one of them, or a
// signature, changes.
func (d *Dir) Catalog() *update.Catalog { return d.catalog.Load() }

// publish makes a new catalog where the state has changed. The caller holds d.mu.
func (d *Dir) publish() {
	if !d.state.changed {
		return
	}
	d.state.changed = false
	next, err := d.state.catalog()
	if err != nil {
		// Names are the keys of a map there, so none can stand twice.
		d.c.Logger.Error("catalog", "err", err)
		return
	}
	if last := d.Catalog(); last == nil || d.state.resigned ||
		last.HadUpdates() != next.HadUpdates() || !slices.Equal(last.Updates(), next.Updates()) {
		d.catalog.Store(next)
	}
	d.state.resigned = false
}

// poke asks Run to list again. It never blocks.
func (d *Dir) poke() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// Open opens the file behind an update of a catalog and checks that it still is the file that was
// listed. The error is fs.ErrNotExist where the directory has no such file any more, and ErrChanged
// where the file is another one or has been changed; either way the directory is listed again soon.
// The caller closes the file.
func (d *Dir) Open(u update.Update) (*os.File, error) {
	want, err := d.listedAs(u)
	if err != nil {
		d.poke()
		return nil, err
	}
	f, err := d.openListed(task{name: u.Name, stamp: want})
	if err != nil {
		d.poke()
		if errors.Is(err, fs.ErrPermission) {
			d.mu.Lock()
			defer d.mu.Unlock()
			// It leaves the catalog at once, so that nobody else is sent to it.
			if e := d.state.entries[u.Name]; e != nil && e.state == listed && e.seen == want {
				d.state.fail(u.Name, e, err, time.Now())
				d.publish()
				d.report()
			}
		}
		return nil, err
	}
	return f, nil
}

// listedAs returns the stamp under which an update is listed now.
func (d *Dir) listedAs(u update.Update) (disk.Stamp, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	e := d.state.entries[u.Name]
	if e == nil || e.state == absent || e.state == failed {
		return disk.Stamp{}, fmt.Errorf("open %v: %w", u.Name, fs.ErrNotExist)
	}
	if e.state != listed || u.Length != e.seen.Size || !u.Time.Equal(e.seen.ModTime()) ||
		!u.Digest.IsZero() && (e.known.stamp != e.seen || u.Digest != e.known.digest) {
		return disk.Stamp{}, fmt.Errorf("open %v: %w", u.Name, ErrChanged)
	}
	return e.seen, nil
}

// openListed opens a file and compares it with the stamp that it was listed with.
func (d *Dir) openListed(t task) (*os.File, error) {
	f, err := d.open(t.name)
	if errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.ENXIO) {
		return nil, fmt.Errorf("%w: %w", ErrChanged, err) // a symbolic link or a socket by now
	}
	if err != nil {
		return nil, err
	}
	if err := unchanged(f, t.stamp); err != nil {
		f.Close() // opened for reading
		return nil, err
	}
	return f, nil
}

// unchanged reports whether an open file still has the stamp, nil for yes.
func unchanged(f *os.File, want disk.Stamp) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if got, ok := stampOf(info); !ok || got != want {
		return fmt.Errorf("%s: %w", f.Name(), ErrChanged)
	}
	return nil
}

// Blocks returns the block list of an update with a digest. The error is ErrPending where it has
// none yet, fs.ErrNotExist where the update is gone, and ErrChanged where its name stands for other
// bytes by now. The caller must not change the list.
func (d *Dir) Blocks(u update.Update) (update.Blocks, error) {
	if u.Digest.IsZero() {
		return nil, fmt.Errorf("blocks of %v: %w", u.Name, ErrPending)
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	e := d.state.entries[u.Name]
	if e == nil || e.state == absent {
		return nil, fmt.Errorf("blocks of %v: %w", u.Name, fs.ErrNotExist)
	}
	if e.known.stamp != e.seen || e.known.digest != u.Digest {
		return nil, fmt.Errorf("blocks of %v: %w", u.Name, ErrChanged)
	}
	return e.known.blocks, nil
}

// Replaced reports whether a name has or may have stood for other bytes before. A Range without
// If-Range on such a name has to be answered with the whole file.
func (d *Dir) Replaced(n update.Name) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	e := d.state.entries[n]
	return e != nil && (e.replaced || e.state != absent && e.everListed() && e.known.stamp != e.seen)
}

// Signature returns the detached signature that lies beside an update of the catalog. Nobody has
// verified it.
func (d *Dir) Signature(u update.Update) (signing.Signature, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	f, ok := d.state.signatures[u.Name]
	return f.sig, ok
}

// OpenDigest opens an archive of the directory by its digest, as Open does.
func (d *Dir) OpenDigest(digest update.Digest) (*os.File, bool) {
	u, ok := d.Catalog().ByDigest(digest)
	if !ok {
		return nil, false
	}
	f, err := d.Open(u)
	return f, err == nil
}
