package dropdir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/update"
)

// stampOf returns the stamp of a regular file without its device: network and overlay file systems get another number
// at every mount. ok is false if the file is not regular.
func stampOf(info fs.FileInfo) (s disk.Stamp, ok bool) {
	s = disk.StampOf(info)
	s.Device = 0
	return s, info.Mode().IsRegular()
}

// sighting is one file in a listing.
type sighting struct {
	name  update.Name
	stamp disk.Stamp
	err   error // why it can't be read; nil if it can or was not tried
}

// listing is what the directory holds at one time.
type listing struct {
	files []sighting
	odd   map[string]string // quoted base name → what is wrong with it

	others map[update.Product]int // archives of other products

	signatures map[update.Name]signatureFile
}

// scan lists the directory. known reports whether a file is known to be readable; every other file is opened once to
// find out. With an error there is no listing.
func (d *Dir) scan(ctx context.Context, known func(update.Name, disk.Stamp) bool) (listing, error) {
	dir, err := os.OpenFile(d.c.Dir, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return listing{}, err
	}
	defer dir.Close() // opened for reading
	l := listing{odd: make(map[string]string), others: make(map[update.Product]int), signatures: make(map[update.Name]signatureFile)}
	for ctx.Err() == nil {
		entries, err := dir.ReadDir(1024)
		for _, e := range entries {
			if err := d.addEntry(&l, e, known); err != nil {
				return listing{}, err
			}
		}
		if errors.Is(err, io.EOF) {
			for p, n := range l.others {
				l.odd[quote(string(p))] = fmt.Sprintf("is another product: %d archives ignored, expected those of %q", n, d.c.Product)
			}
			return l, nil
		}
		if err != nil {
			return listing{}, err
		}
	}
	return listing{}, ctx.Err()
}

// addEntry adds one directory entry to the listing if it counts. An error is about the whole directory.
func (d *Dir) addEntry(l *listing, e fs.DirEntry, known func(update.Name, disk.Stamp) bool) error {
	if d.addSignature(l, e) {
		return nil
	}
	n, err := update.ParseName(e.Name())
	if err != nil {
		if e.Type().IsRegular() && looksLike(d.c.Product, e.Name()) {
			l.odd[quote(e.Name())] = "ignored: " + clip(err.Error())
		}
		return nil
	}
	if n.Product() != d.c.Product {
		l.others[n.Product()]++
		return nil
	}
	if !e.Type().IsRegular() {
		l.odd[quote(e.Name())] = "ignored: expected a regular file; " + kindOf(e.Type())
		return nil
	}
	info, err := e.Info()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, fs.ErrPermission):
		return err // an error of stat is about the directory, not the file
	case err != nil:
		l.odd[quote(e.Name())] = "left out: " + clip(err.Error())
		return nil
	}
	if info.Size() > update.MaxLength {
		l.odd[quote(e.Name())] = fmt.Sprintf("left out: %d bytes, at most %d", info.Size(), int64(update.MaxLength))
		return nil
	}
	if s, ok := stampOf(info); ok {
		f := sighting{name: n, stamp: s}
		if !known(n, s) {
			f.err = d.probe(n)
		}
		if !errors.Is(f.err, fs.ErrNotExist) {
			l.files = append(l.files, f)
		}
	}
	return nil
}

// kindOf describes a file that is not regular, and says what to do about it.
func kindOf(m fs.FileMode) string {
	switch {
	case m&fs.ModeSymlink != 0:
		return "it is a symbolic link: copy the archive, or link it with ln without -s"
	case m.IsDir():
		return "it is a directory"
	}
	return "it is a " + m.String()[:1] + " file, as ls -l shows it"
}

func looksLike(p update.Product, base string) bool {
	return strings.HasPrefix(base, string(p)+"-") && slices.ContainsFunc(
		[]update.Format{update.TarBzip2, update.TarGzip, update.TarZstd},
		func(f update.Format) bool { return strings.HasSuffix(base, "."+string(f)) })
}

// probe returns why a file can't be opened, nil if it can or if the file is not to blame.
func (d *Dir) probe(n update.Name) error {
	f, err := d.open(n)
	if err != nil {
		if exhausted(err) {
			return nil
		}
		return err
	}
	return f.Close()
}

// exhausted reports whether an error is about this process or machine and not about a file.
func exhausted(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) ||
		errors.Is(err, syscall.ENOMEM) || errors.Is(err, syscall.EINTR)
}

// unservable reports whether no file of a directory that gives this error can be opened.
func unservable(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || slices.ContainsFunc(
		[]syscall.Errno{syscall.ENOTDIR, syscall.ELOOP, syscall.ESTALE, syscall.ENODEV, syscall.ENOTCONN},
		func(e syscall.Errno) bool { return errors.Is(err, e) })
}

// openFile opens a file of the directory without following a symbolic link and without waiting for the other end of a
// FIFO. A parsed name contains no slash, so it can't lead out of the directory.
func (d *Dir) openFile(n update.Name) (*os.File, error) {
	return os.OpenFile(filepath.Join(d.c.Dir, n.String()), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
}

// list lists the directory and updates the state. After an error the state is that of a directory without files or,
// if the error is not about the directory, the last one. stillAt is when the next file may have been still for long
// enough, zero if none waits.
func (d *Dir) list(ctx context.Context) (stillAt time.Time, err error) {
	l, err := d.scan(ctx, func(n update.Name, s disk.Stamp) bool {
		d.mu.RLock()
		defer d.mu.RUnlock()
		return d.state.readable(n, s)
	})
	if ctx.Err() != nil {
		return time.Time{}, ctx.Err()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.report()
	d.state.takeListError(err)
	if err == nil || unservable(err) {
		d.state.observe(l, time.Now())
	}
	d.publish()
	return d.state.stillAt, err
}

// signatureSuffix ends the name of a signature file: U.sig lies beside the archive U.
const signatureSuffix = ".sig"

// maxSignature is how many bytes of a signature file are read. It is more than a signature has, so that the length
// shows that a longer file is none.
const maxSignature = 1 << 10

// signatureFile is a signature file in a listing.
type signatureFile struct {
	stamp disk.Stamp
	sig   signing.Signature
}

// addSignature adds a directory entry to the listing if it is a signature file of the product, and reports whether it
// is.
func (d *Dir) addSignature(l *listing, e fs.DirEntry) bool {
	stem, ok := strings.CutSuffix(e.Name(), signatureSuffix)
	if !ok || !e.Type().IsRegular() {
		return false
	}
	n, err := update.ParseName(stem)
	if err != nil || n.Product() != d.c.Product {
		return false
	}
	f, err := d.readSignature(n, e)
	switch {
	case err == nil:
		l.signatures[n] = f
	case !errors.Is(err, fs.ErrNotExist):
		l.odd[quote(e.Name())] = "ignored: " + clip(err.Error())
	}
	return true
}

// readSignature reads a signature file, unless the file is the same as at the last listing.
func (d *Dir) readSignature(n update.Name, e fs.DirEntry) (signatureFile, error) {
	info, err := e.Info()
	if err != nil {
		return signatureFile{}, err
	}
	s, ok := stampOf(info)
	if !ok {
		return signatureFile{}, fmt.Errorf("%w: no regular file", fs.ErrInvalid)
	}
	d.mu.RLock()
	known, ok := d.state.signatures[n]
	d.mu.RUnlock()
	if ok && known.stamp == s {
		return known, nil
	}
	raw, err := disk.ReadRegular(filepath.Join(d.c.Dir, e.Name()), maxSignature)
	if err != nil {
		return signatureFile{}, err
	}
	sig, err := signing.ParseSignature(raw)
	if err != nil {
		return signatureFile{}, err
	}
	return signatureFile{s, sig}, nil
}

// watcher wakes a Dir when its directory changes.
type watcher struct {
	w    *fsnotify.Watcher
	path string
	at   disk.Stamp // the directory that is watched
	done sync.WaitGroup
}

// newWatcher starts a watcher that watches nothing yet.
func (d *Dir) newWatcher() (*watcher, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	t := &watcher{w: w, path: filepath.Clean(d.c.Dir)}
	t.done.Go(func() { d.forward(t) })
	return t, nil
}

// forward turns events into requests to list again until the watcher is closed.
func (d *Dir) forward(t *watcher) {
	for {
		select {
		case e, ok := <-t.w.Events:
			if !ok {
				return
			}
			if d.matters(t, e.Name) {
				d.relist()
			}
		case _, ok := <-t.w.Errors:
			if !ok {
				return
			}
			d.relist() // some events were lost
		}
	}
}

// matters reports whether an event is about an archive or about the directory itself.
func (d *Dir) matters(t *watcher, path string) bool {
	return filepath.Clean(path) == t.path || strings.HasPrefix(filepath.Base(path), string(d.c.Product)+"-")
}

// follow watches the directory that is at the path now. The watch on the directory before may be gone with it, and a
// new directory may have the same inode.
func (t *watcher) follow(dir disk.Stamp) error {
	if t.at.SameFile(dir) && len(t.w.WatchList()) > 0 {
		return nil
	}
	for _, path := range t.w.WatchList() {
		// On an error the kernel has dropped the watch already.
		_ = t.w.Remove(path)
	}
	t.at = disk.Stamp{}
	if err := t.w.Add(t.path); err != nil {
		return err
	}
	t.at = dir
	return nil
}

// close ends the watcher and waits for its goroutine.
func (t *watcher) close() error {
	err := t.w.Close()
	t.done.Wait()
	return err
}
