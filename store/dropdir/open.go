package dropdir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/openpowerquality/box-update-server/update"
)

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
			d.lost(task{name: u.Name, stamp: want}, err)
		}
		return nil, err
	}
	return f, nil
}

// lost takes over that a listed file can't be opened. The caller holds d.mu.
func (d *Dir) lost(t task, err error) {
	if e := d.state.entries[t.name]; e != nil && e.listed && e.seen == t.stamp {
		d.state.fail(t.name, e, err, time.Now())
		d.publish()
		d.report()
	}
}

// listedAs returns the stamp under which an update is listed now.
func (d *Dir) listedAs(u update.Update) (stamp, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	e := d.state.entries[u.Name]
	if e == nil || !e.present || e.failed != nil {
		return stamp{}, fmt.Errorf("open %v: %w", u.Name, fs.ErrNotExist)
	}
	if !e.listed || u.Length != e.seen.size || !u.Time.Equal(e.seen.modified()) ||
		!u.Digest.IsZero() && (e.known.stamp != e.seen || u.Digest != e.known.digest) {
		return stamp{}, fmt.Errorf("open %v: %w", u.Name, ErrChanged)
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
func unchanged(f *os.File, want stamp) error {
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
	if e == nil || !e.present {
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
	return e != nil && (e.replaced || e.present && e.served && e.known.stamp != e.seen)
}
