// Package dropdir serves a plain directory into which people copy archives: as a catalog of updates, and as a source
// of their bytes. It never writes to the directory.
//
// # Which files count
//
// A file counts if it is regular and its base name is the name of an update of the configured product. Everything
// else is ignored: other names, dotfiles, symbolic links, directories, FIFOs, devices. Of these, Health reports what
// looks like an archive, such as a name of the product that does not parse (opq-box-update-latest.tar.bz2).
//
// A file is listed once its size and modification time have not changed for Config.Still. If its modification time is
// older than that, it is listed at once; otherwise after two listings that far apart. The modification time is not
// trusted if it lies in the future or if the file was seen to change: then only the listings count. A listed file
// that changes leaves the catalog until it is still again. An empty file does not count: it is an upload that has
// only begun.
//
// # Digests
//
// Digest and block list are computed in the background, two files at a time, the newest version first. An update
// without a digest is in the catalog already and can be served by name. Inode, size, modification time and change
// time identify a file; the device does not count, because network and overlay file systems get another number at
// every mount. A digest is only used if all four are the same before and after reading.
//
// # Replaced files
//
// A name should never stand for other bytes. If somebody replaces a file nevertheless, the old digest leaves the
// catalog, a warning says so, and Replaced returns true for the name from then on. So a client that resumes a
// download by name gets the whole file instead of two halves of different ones. If only the times of a file changed
// (touch, chmod), it is hashed again, and it counts as replaced only if the digest differs or the old one was never
// computed.
//
// # Signatures
//
// The 64 bytes of a file U.sig beside an archive U are served as its detached signature; see package signing. They
// are not verified here.
//
// # Failures
//
// If the directory is gone or can't be read, the catalog becomes empty, remembers that there were updates, and fills
// again when the directory is back. An error that is not about the directory (too many open files) leaves the last
// listing as it is. A file that can't be read is left out, so that clients can fetch the newest update that they see.
// It is tried again when its metadata change, and otherwise after a minute, then two, up to an hour, and is listed
// again once it has been read in whole.
//
// # Cache
//
// With Config.Cache, what was learned of each file is kept in the file digests.json in that directory; see
// sealCache and cachedFile for its format. A damaged cache is discarded and made anew.
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

// ErrPending says that an update has not been hashed yet. The caller should try again later.
var ErrPending = errors.New("not hashed yet")

// ErrChanged says that a file no longer holds the bytes that the catalog listed. Those bytes are gone, so it wraps
// fs.ErrNotExist.
var ErrChanged = fmt.Errorf("file changed since it was listed: %w", fs.ErrNotExist)

// Config says which directory is served and how. Only Dir is required.
type Config struct {
	Dir     string         // the directory with the archives
	Product update.Product // whose archives count; zero: update.DefaultProduct

	// Cache is a directory for the digest cache alone. It is made if it is missing, and nobody else may write there.
	// Empty: nothing is kept, and every start hashes all archives.
	Cache string

	Still  time.Duration // how long a file must not have changed to count; 0: 2 s
	Poll   time.Duration // how often to list without an event; 0: 30 s
	Logger *slog.Logger  // nil: no log

	// Check inspects an archive and returns what is improper about it, nil for nothing. It is called with the file at
	// offset 0, once for each archive, one at a time, after all hashing, and must return soon after ctx ends. It does
	// not close f. Nil: no check.
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
	quick   time.Duration // how long a check may delay those of other archives

	mu      sync.RWMutex
	state   *state
	health  *Health // of the present state; nil: not computed yet
	saveGap time.Duration
}

// Open lists the directory once, without hashing anything. It is an error if it can't be read as a directory. The
// caller then calls Run; until then the catalog stays as it is.
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
	if _, err := d.list(ctx); err != nil {
		return nil, fmt.Errorf("updates directory: %w", err)
	}
	d.c.Logger.Info("updates directory listed", "dir", c.Dir, "updates", len(d.Catalog().Updates()),
		"pending", d.Health().Pending)
	return d, nil
}

// Catalog returns the updates as of the last change: the same pointer until one of them, or a
// signature, changes.
func (d *Dir) Catalog() *update.Catalog { return d.catalog.Load() }

// publish makes a new catalog if the state has changed. The caller holds d.mu.
func (d *Dir) publish() {
	if !d.state.changed {
		return
	}
	d.state.changed = false
	next, err := d.state.catalog()
	if err != nil {
		// This can't happen: the names are the keys of a map, so none occurs twice.
		d.c.Logger.Error("catalog", "err", err)
		return
	}
	if last := d.Catalog(); last == nil || d.state.resigned ||
		last.HadUpdates() != next.HadUpdates() || !slices.Equal(last.Updates(), next.Updates()) {
		d.catalog.Store(next)
	}
	d.state.resigned = false
}

// relist asks Run to list again. It never blocks.
func (d *Dir) relist() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// Open opens the file of an update in a catalog and checks that it still is the file that was listed. The error is
// fs.ErrNotExist if the directory has no such file any more, and ErrChanged if it is another file or has changed;
// either way the directory is listed again soon. The caller closes the file.
func (d *Dir) Open(u update.Update) (*os.File, error) {
	want, err := d.listedAs(u)
	if err != nil {
		d.relist()
		return nil, err
	}
	f, err := d.openListed(task{name: u.Name, stamp: want})
	if err != nil {
		d.relist()
		if errors.Is(err, fs.ErrPermission) {
			d.mu.Lock()
			defer d.mu.Unlock()
			// It leaves the catalog at once, so that no further client is sent to it.
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

// listedAs returns the stamp of the file under which an update is listed now.
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

// openListed opens the file of a task and compares it with the stamp that it was listed with.
func (d *Dir) openListed(t task) (*os.File, error) {
	f, err := d.open(t.name)
	if errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.ENXIO) {
		return nil, fmt.Errorf("%w: %w", ErrChanged, err) // it became a symbolic link or a socket
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

// unchanged returns nil if an open file still has the stamp, else ErrChanged or why that can't be found out.
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

// Blocks returns the block list of an update with a digest. The error is ErrPending if it has none yet,
// fs.ErrNotExist if the update is gone, and ErrChanged if its name stands for other bytes by now. The caller must not
// change the list.
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

// Replaced reports whether a name has or may have stood for other bytes before. A Range request without If-Range for
// such a name must be answered with the whole file.
func (d *Dir) Replaced(n update.Name) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	e := d.state.entries[n]
	return e != nil && (e.replaced || e.state != absent && e.everListed() && e.known.stamp != e.seen)
}

// Signature returns the detached signature beside an update of the catalog, if there is one. It is not verified.
func (d *Dir) Signature(u update.Update) (signing.Signature, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	f, ok := d.state.signatures[u.Name]
	return f.sig, ok
}

// OpenDigest opens the archive with that digest, as Open does.
func (d *Dir) OpenDigest(digest update.Digest) (*os.File, bool) {
	u, ok := d.Catalog().ByDigest(digest)
	if !ok {
		return nil, false
	}
	f, err := d.Open(u)
	return f, err == nil
}
