// Package disk is the one door to the disk.
//
//	writes         FS writes files so that a crash, a kill or a power cut at any instant leaves either the old
//	               file or the new one, whole, and so that a write that was reported as done stays done
//	state          WriteState and ReadState keep small files of bookkeeping, which survive turned bits
//	bounded reads  ReadFile, ReadRegular and ReadAll read at most so many bytes and refuse more, with ErrTooLong
//	space          SpaceOf and CheckSpace say what is free; ErrNoSpace is the error of a full disk, whoever meets it
//	identity       Stamp tells whether a file is another one, or was written to
//	locks          TryLock keeps a directory for one process
//
// The order of system calls for a file that replaces another:
//
//	open   <dir>/.tmp-*       exclusive, in the same directory, so that rename(2) is atomic
//	write  all bytes
//	fsync  the file           before the rename: a name must never lead to missing bytes
//	rename <dir>/.tmp-* <dir>/name
//	fsync  <dir>              the rename itself is on the disk
//
// A file that must not replace another is linked instead of renamed, since link(2) refuses an existing
// name. Temporary files left by a crash begin with TempPrefix and are removed by RemoveTemps.
package disk

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// TempPrefix begins the name of every temporary file that this package makes.
const TempPrefix = ".tmp-"

// Op names one change to the file system, for Hook.
type Op string

// The changes, one for each system call that matters for durability.
const (
	OpCreate  Op = "create" // a temporary file; path is the file that it becomes
	OpWrite   Op = "write"
	OpSync    Op = "sync"
	OpRename  Op = "rename"
	OpLink    Op = "link"
	OpRemove  Op = "remove"
	OpMkdir   Op = "mkdir"
	OpSyncDir Op = "syncdir"
)

// FS writes to the file system. Its zero value is ready for use.
type FS struct {
	// Hook, if not nil, is called before each change with the path that the change is about. It
	// returns whether the change is carried out and, independently, the error that the caller gets
	// (after the change, if it is carried out), so that "failed, but written" can be tested.
	Hook func(op Op, path string) (apply bool, err error)
}

// do carries out one change under the hook. What the system says of a full disk is ErrNoSpace from here on.
func (f FS) do(op Op, path string, change func() error) error {
	if f.Hook == nil {
		return AsNoSpace(change())
	}
	apply, hookErr := f.Hook(op, path)
	if apply {
		if err := change(); err != nil {
			return AsNoSpace(err)
		}
	}
	return AsNoSpace(hookErr)
}

// WriteFile makes path hold exactly data with exactly the mode perm, replacing what is there. After an
// error path is what it was before or, where only the last step failed, the new file; whole either way.
func (f FS) WriteFile(path string, data []byte, perm fs.FileMode) error {
	return f.put(path, content(data), perm, func(temp string) error {
		return f.do(OpRename, path, func() error { return os.Rename(temp, path) })
	})
}

// CreateFile makes path hold exactly data with exactly the mode perm and refuses, with fs.ErrExist, a
// path that exists. After another error there is no such path or, where only the last step failed, the
// whole file.
func (f FS) CreateFile(path string, data []byte, perm fs.FileMode) error {
	return f.CreateFileFunc(path, perm, content(data))
}

// CreateFileFunc makes path hold what write puts into a new, empty file, and refuses, with
// fs.ErrExist, a path that exists. Where write returns an error, nothing is left.
func (f FS) CreateFileFunc(path string, perm fs.FileMode, write func(*os.File) error) error {
	return f.put(path, write, perm, func(temp string) error {
		return f.do(OpLink, path, func() error { return os.Link(temp, path) })
	})
}

func content(data []byte) func(*os.File) error {
	return func(file *os.File) error {
		_, err := file.Write(data)
		return err
	}
}

func (f FS) put(path string, write func(*os.File) error, perm fs.FileMode, place func(temp string) error) (err error) {
	var temp *os.File
	err = f.do(OpCreate, path, func() (err error) {
		temp, err = os.CreateTemp(filepath.Dir(path), TempPrefix+"*")
		return err
	})
	if temp != nil {
		// After a rename the temporary name is gone and removing it again does nothing; closing again
		// does nothing either.
		defer os.Remove(temp.Name())
		defer temp.Close()
	}
	if err != nil {
		return writeError(path, err)
	}
	if temp == nil {
		return nil // the hook made believe
	}
	if err := f.fill(temp, path, write, perm); err != nil {
		return writeError(path, err)
	}
	if err := place(temp.Name()); err != nil {
		return writeError(path, err)
	}
	return f.SyncDir(filepath.Dir(path))
}

// writeError says why path was not written. The name of the temporary file, which is gone by then, is not in it.
func writeError(path string, err error) error {
	why := err
	var in *fs.PathError
	var between *os.LinkError
	switch {
	case errors.As(err, &in) && (in.Path == path || strings.HasPrefix(filepath.Base(in.Path), TempPrefix)):
		why = in.Err
	case errors.As(err, &between) && between.New == path:
		why = between.Err
	}
	return &notWritten{path, why, err}
}

// notWritten is the error of a file that was not written.
type notWritten struct {
	path     string
	why, err error
}

func (e *notWritten) Error() string { return "write " + e.path + ": " + e.why.Error() }
func (e *notWritten) Unwrap() error { return e.err }

func (f FS) fill(temp *os.File, path string, write func(*os.File) error, perm fs.FileMode) (err error) {
	defer func() { err = errors.Join(err, temp.Close()) }()
	err = f.do(OpWrite, path, func() error { return write(temp) })
	if err != nil {
		return err
	}
	if err := temp.Chmod(perm); err != nil {
		return err
	}
	return f.do(OpSync, path, temp.Sync)
}

// Sync brings the bytes of an open file to the disk.
func (f FS) Sync(file *os.File) error {
	return f.do(OpSync, file.Name(), file.Sync)
}

// Rename moves a file whose bytes are synced already, replaces what is at to, and syncs the directory
// of to, and then that of from where it is another: a power cut between leaves two names, never none.
func (f FS) Rename(from, to string) error {
	if err := f.RenameTo(from, to); err != nil || filepath.Dir(from) == filepath.Dir(to) {
		return err
	}
	return f.SyncDir(filepath.Dir(from))
}

// RenameTo is Rename for a caller who can bear that a power cut soon after it leaves the old name, too: the
// directory of from is not synced.
func (f FS) RenameTo(from, to string) error {
	if err := f.do(OpRename, to, func() error { return os.Rename(from, to) }); err != nil {
		return err
	}
	return f.SyncDir(filepath.Dir(to))
}

// Remove removes a file durably. A file that is not there is no error.
func (f FS) Remove(path string) error {
	err := f.do(OpRemove, path, func() error { return os.Remove(path) })
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.SyncDir(filepath.Dir(path))
}

// MkdirAll makes path and the parents that are missing, each durably, with the mode perm less the
// umask. What exists and is no directory is refused, with syscall.ENOTDIR.
func (f FS) MkdirAll(path string, perm fs.FileMode) error {
	path = filepath.Clean(path)
	parent := filepath.Dir(path)
	there, err := isDir(path)
	if err != nil {
		return err
	}
	if there {
		// A crash may have come after it was made, before its parent was synced. Of the directories that
		// exist this can be true of the lowest one alone. Where the parent can't be read or written to, it was
		// not made by us.
		err := f.SyncDir(parent)
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
			return nil
		}
		return err
	}
	if err := f.MkdirAll(parent, perm); err != nil {
		return err
	}
	return f.Mkdir(path, perm)
}

// Mkdir makes a directory in one whose own name is on the disk. One that is there already is no error, and its name is on the
// disk then, too.
func (f FS) Mkdir(path string, perm fs.FileMode) error {
	err := f.do(OpMkdir, path, func() error { return os.Mkdir(path, perm) })
	if errors.Is(err, fs.ErrExist) {
		// Another process was faster, or a symbolic link leads nowhere.
		if there, _ := isDir(path); there {
			err = nil
		}
	}
	if err != nil {
		return err
	}
	return f.SyncDir(filepath.Dir(path))
}

// isDir reports whether path is there; what is there and no directory is an error.
func isDir(path string) (bool, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "mkdir", Path: path, Err: syscall.ENOTDIR}
	}
	return err == nil, err
}

// SyncDir brings the names in a directory to the disk.
func (f FS) SyncDir(dir string) error {
	return f.do(OpSyncDir, dir, func() (err error) {
		d, err := os.Open(dir)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, d.Close()) }()
		return d.Sync()
	})
}

// Link gives a file a second name, which must not exist. The caller syncs the directory of to.
func (f FS) Link(from, to string) error {
	return f.do(OpLink, to, func() error { return os.Link(from, to) })
}

// RemoveTemps removes what a crash left behind in dir, whose one writer the caller must be.
func (f FS) RemoveTemps(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close() // opened for reading
	for {
		names, err := d.Readdirnames(1000)
		for _, name := range names {
			if strings.HasPrefix(name, TempPrefix) {
				if err := f.Remove(filepath.Join(dir, name)); err != nil {
					return err
				}
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
