package router

import (
	"errors"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/update"
)

const (
	maxIdleFiles = 128              // open files that nobody reads
	idleFileTime = 10 * time.Second // a file that nobody reads is closed after one to two of these
)

// files keeps the archives of one catalog open between requests, one file each, shared by all that
// read it.
type files struct {
	source Source

	mu     sync.Mutex
	open   map[update.Name]*openFile
	idle   int // how many of them nobody reads
	sweep  *time.Timer
	closed bool
}

// An openFile is an open archive with its stamp and header fields. It is shared, so it is only read by offset.
type openFile struct {
	*os.File
	name   update.Name
	stamp  disk.Stamp
	fields []field

	readers int  // guarded by files.mu
	fresh   bool // used since the last sweep; guarded by files.mu
}

// errRewritten says that a file no longer holds the bytes that it held when it was opened.
var errRewritten = errors.New("the file was written to since it was opened")

// intact returns errRewritten if the file was written to since it was opened. Removing, linking or chmod changes only
// the file's ctime, which does not count, so that running downloads continue.
func (f *openFile) intact() error {
	now, err := disk.StampOpen(f.File)
	if err == nil && (!now.SameBytes(f.stamp)) {
		err = errRewritten
	}
	return err
}

func newFiles(s Source) *files {
	return &files{source: s, open: map[update.Name]*openFile{}}
}

// acquire returns the open file of an update, and opens it if it is not open yet or was written to since. The caller
// must call release.
func (s *files) acquire(u update.Update) (*openFile, error) {
	s.mu.Lock()
	f := s.open[u.Name]
	if f != nil {
		if f.readers == 0 {
			s.idle--
		}
		f.readers++
	}
	s.mu.Unlock()
	if f == nil {
		return s.add(u)
	}
	if stamp, err := disk.StampOpen(f.File); err == nil && stamp == f.stamp {
		return f, nil
	}
	s.mu.Lock()
	if s.open[f.name] == f {
		delete(s.open, f.name)
	}
	s.mu.Unlock()
	s.release(f)
	return s.add(u)
}

// add opens an update through the source and offers it to others.
func (s *files) add(u update.Update) (*openFile, error) {
	file, err := s.source.Open(u)
	if err != nil {
		return nil, err
	}
	stamp, err := disk.StampOpen(file)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if stamp.Size != u.Length {
		return nil, errors.Join(fs.ErrNotExist, file.Close()) // the file has changed since the catalog was made
	}
	f := &openFile{File: file, name: u.Name, stamp: stamp, fields: archiveFields(u), readers: 1}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[u.Name] == nil && !s.closed {
		s.open[u.Name] = f
	}
	return f, nil
}

// release ends one use of a file. It closes the file if nobody uses it and it can't be shared any more, or too many
// idle files are open.
func (s *files) release(f *openFile) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.readers--
	f.fresh = true
	if f.readers > 0 {
		return
	}
	shared := s.open[f.name] == f
	if shared && s.idle < maxIdleFiles {
		s.idle++
		if s.sweep == nil {
			s.sweep = time.AfterFunc(idleFileTime, s.closeIdle)
		}
		return
	}
	if shared {
		delete(s.open, f.name)
	}
	_ = f.Close() // it was only read
}

// closeIdle closes the files that nobody has used since the last sweep.
func (s *files) closeIdle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.open {
		if f.readers == 0 && !f.fresh {
			s.drop(f)
		}
		f.fresh = false
	}
	if s.sweep = nil; s.idle > 0 && !s.closed {
		s.sweep = time.AfterFunc(idleFileTime, s.closeIdle)
	}
}

// drop closes an idle file. s.mu is held.
func (s *files) drop(f *openFile) {
	delete(s.open, f.name)
	s.idle--
	_ = f.Close()
}

// close closes all idle files now, and the others when they are released.
func (s *files) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.sweep != nil {
		s.sweep.Stop()
	}
	for n, f := range s.open {
		if f.readers == 0 {
			s.drop(f)
		}
		delete(s.open, n)
	}
}
