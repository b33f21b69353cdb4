package archive

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
)

// placer writes entries that were checked before. It keeps its current directory open, and those above it, so that each
// name is looked up in one step; os.Root keeps all of it inside.
type placer struct {
	levels []level // from the outermost directory inwards
	buf    []byte
	masked bool  // the umask takes permissions away
	err    error // the first error of the disk, which is not the archive's fault
}

// level is a directory that is open.
type level struct {
	root *os.Root
	path string    // from the outermost directory; "." for that one
	time time.Time // to be set when it is left, since each new file changes it; zero for none
}

func newPlacer(dir *os.Root) *placer {
	return &placer{levels: []level{{root: dir, path: "."}}, buf: make([]byte, aheadChunk)}
}

// close leaves all directories. It does not close the outermost one.
func (d *placer) close() {
	for len(d.levels) > 1 {
		d.leave()
	}
}

func (d *placer) inner() *level { return &d.levels[len(d.levels)-1] }

// add writes an entry whose content is head and then body. The error is one of body.
func (d *placer) add(e Entry, head []byte, body io.Reader) error {
	name := path.Clean(e.Name)
	switch {
	case name == "." || e.Mode.Type() == fs.ModeIrregular: // a global header
		return nil
	case e.Mode.IsDir():
		d.directory(name, e)
		return nil
	}
	if d.enter(path.Dir(name)); d.err != nil {
		return nil
	}
	base := path.Base(name)
	switch {
	case e.Mode.Type() == fs.ModeSymlink:
		d.note(d.inner().root.Symlink(e.Link, base))
	case e.Link != "":
		d.hardLink(name, e)
	default:
		return d.file(base, e, head, body)
	}
	return nil
}

// note remembers the first error.
func (d *placer) note(err error) {
	if d.err == nil {
		d.err = err
	}
}

func (d *placer) directory(name string, e Entry) {
	if d.enter(name); d.err != nil {
		return
	}
	d.note(d.inner().root.Chmod(".", permOf(e.Mode)))
	d.inner().time = timeOf(e)
}

func (d *placer) hardLink(name string, e Entry) {
	d.note(d.levels[0].root.Link(path.Clean(e.Link), name))
	if d.err == nil {
		d.note(d.inner().root.Chmod(path.Base(name), permOf(e.Mode)))
	}
}

func (d *placer) file(base string, e Entry, head []byte, body io.Reader) error {
	// O_NONBLOCK has no effect on a file, and saves package os the four calls that would set and clear it.
	const flags = os.O_WRONLY | os.O_CREATE | os.O_EXCL | disk.NonBlock
	perm := permOf(e.Mode)
	f, err := d.inner().root.OpenFile(base, flags, perm)
	if err != nil {
		d.note(err)
		return nil
	}
	err = d.fill(f, head, body)
	if d.masked {
		d.note(f.Chmod(perm))
	}
	d.note(f.Close())
	if err == nil && d.err == nil {
		at := timeOf(e)
		d.note(d.inner().root.Chtimes(base, at, at))
	}
	return err
}

// fill writes head and then body. The error is one of body.
func (d *placer) fill(f *os.File, head []byte, body io.Reader) error {
	n, err := copy(d.buf, head), error(nil)
	for {
		if n > 0 {
			if _, err := f.Write(d.buf[:n]); err != nil {
				d.note(err)
				return nil
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		n, err = body.Read(d.buf)
	}
}

// enter makes dir, a clean path, the innermost directory.
func (d *placer) enter(dir string) {
	for !holds(d.inner().path, dir) {
		d.leave()
	}
	for d.err == nil && d.inner().path != dir {
		rest := dir
		if at := d.inner().path; at != "." {
			rest = dir[len(at)+1:]
		}
		element, _, _ := strings.Cut(rest, "/")
		d.descend(element)
	}
}

// holds reports whether path is dir or lies below it.
func holds(dir, path string) bool {
	return dir == "." || path == dir || strings.HasPrefix(path, dir) && path[len(dir)] == '/'
}

// dirPerm are the permissions of a directory until its entry comes. They include those of any entry.
const dirPerm = 0o755

// descend enters a directory in the innermost one, and makes it if it is missing. An existing one keeps its time.
func (d *placer) descend(element string) {
	up := d.inner()
	err := up.root.Mkdir(element, dirPerm)
	there := errors.Is(err, fs.ErrExist)
	if err != nil && !there {
		d.note(err)
		return
	}
	root, err := up.root.OpenRoot(element)
	if err != nil {
		d.note(err)
		return
	}
	d.levels = append(d.levels, level{root: root, path: path.Join(up.path, element)})
	info, err := root.Stat(".")
	switch {
	case err != nil:
		d.note(err)
	case there:
		d.inner().time = info.ModTime()
	default:
		d.masked = info.Mode().Perm() != dirPerm
	}
}

// leave goes one directory outwards.
func (d *placer) leave() {
	l := d.inner()
	if !l.time.IsZero() && d.err == nil {
		d.note(l.root.Chtimes(".", l.time, l.time))
	}
	d.note(l.root.Close())
	d.levels = d.levels[:len(d.levels)-1]
}

// permOf returns the permissions that an entry gets.
func permOf(m fs.FileMode) fs.FileMode {
	perm := m.Perm() & dirPerm
	switch {
	case m.IsDir():
		return perm | 0o700
	case perm&0o111 != 0:
		return perm | 0o500
	}
	return perm | 0o400
}

// timeOf returns the time of an entry, or the nearest one that every file system can hold.
func timeOf(e Entry) time.Time {
	switch s := e.Time.Unix(); {
	case s < 0:
		return time.Unix(0, 0)
	case s > maxTime:
		return time.Unix(maxTime, 0)
	}
	return e.Time
}
