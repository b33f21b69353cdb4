package dropdir

import (
	"path/filepath"
	"strings"
	"sync"

	"github.com/fsnotify/fsnotify"

	"github.com/openpowerquality/box-update-server/internal/disk"
)

// watcher wakes a Dir when its directory changes.
type watcher struct {
	w    *fsnotify.Watcher
	path string
	at   disk.Stamp // what is watched
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

// forward turns events into requests to list again, until the watcher is closed.
func (d *Dir) forward(t *watcher) {
	for {
		select {
		case e, ok := <-t.w.Events:
			if !ok {
				return
			}
			if d.matters(t, e.Name) {
				d.poke()
			}
		case _, ok := <-t.w.Errors:
			if !ok {
				return
			}
			d.poke() // events were lost
		}
	}
}

// matters reports whether an event is about an archive or about the directory itself.
func (d *Dir) matters(t *watcher, path string) bool {
	return filepath.Clean(path) == t.path || strings.HasPrefix(filepath.Base(path), string(d.c.Product)+"-")
}

// follow watches the directory that is at the path now. The watch on an earlier one may be gone with
// it, and a new directory may have the inode of the old one.
func (t *watcher) follow(dir disk.Stamp) error {
	if t.at.SameFile(dir) && len(t.w.WatchList()) > 0 {
		return nil
	}
	for _, path := range t.w.WatchList() {
		// An error says that the kernel dropped the watch first.
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
