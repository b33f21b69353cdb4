// Package disk accesses the disk for all other packages.
//
//	writes         FS writes files so that a crash, a kill or a power cut at any instant leaves either the old
//	               file or the new one, whole, and so that a write that was reported as done stays done
//	state          WriteState and ReadState keep small files of bookkeeping that survive flipped bits
//	bounded reads  ReadFile, ReadRegular and ReadAll refuse more bytes than a limit, with ErrTooLong
//	space          SpaceOf and CheckSpace measure the free space; ErrNoSpace is the error of a full disk
//	identity       a Stamp shows whether a path leads to another file than before, or whether the file was written to
//	locks          TryLock reserves a directory for one process
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
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/status"
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
	// Hook, if not nil, is called before each change to path. It returns whether to carry out the change and, independently,
	// the error that the caller gets, so that a test can make a change that is written and reported as failed.
	Hook func(op Op, path string) (apply bool, err error)
}

// do carries out one change under the hook. The error of a full disk becomes ErrNoSpace.
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

// WriteFile writes data to path with exactly the mode perm, and replaces the file that is there. After an error, path is
// the old file or, if only the last step failed, the new one; either is whole.
func (f FS) WriteFile(path string, data []byte, perm fs.FileMode) error {
	return f.put(path, content(data), perm, func(temp string) error {
		return f.do(OpRename, path, func() error { return os.Rename(temp, path) })
	})
}

// CreateFile writes data to path with exactly the mode perm, and refuses a path that exists with fs.ErrExist. After another
// error there is no such path or, if only the last step failed, the whole file.
func (f FS) CreateFile(path string, data []byte, perm fs.FileMode) error {
	return f.CreateFileFunc(path, perm, content(data))
}

// CreateFileFunc is CreateFile with the content that write writes to an empty file. If write returns an error, nothing is
// left.
func (f FS) CreateFileFunc(path string, perm fs.FileMode, write func(*os.File) error) error {
	return f.put(path, write, perm, func(temp string) error {
		return f.do(OpLink, path, func() error { return os.Link(temp, path) })
	})
}

// RefuseExisting returns fs.ErrExist if there is something at path, even a link to nothing. It spares a caller long work
// that CreateFileFunc would refuse in the end.
func RefuseExisting(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%s: %w", path, fs.ErrExist)
	}
	return nil
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
		// After a rename the temporary name is gone, and removing it does nothing. Closing twice does nothing either.
		defer os.Remove(temp.Name())
		defer temp.Close()
	}
	if err != nil {
		return writeError(path, err)
	}
	if temp == nil {
		return nil // the hook prevented the change
	}
	if err := f.fill(temp, path, write, perm); err != nil {
		return writeError(path, err)
	}
	if err := place(temp.Name()); err != nil {
		return writeError(path, err)
	}
	return f.SyncDir(filepath.Dir(path))
}

// writeError returns the reason why path was not written, without the name of the temporary file, which is gone by then.
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
	return explain.Reword(err, "write "+path+": "+why.Error())
}

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

// Sync makes the bytes of an open file durable.
func (f FS) Sync(file *os.File) error {
	return f.do(OpSync, file.Name(), file.Sync)
}

// Rename moves a file whose bytes are synced already, and replaces what is at to. It syncs the directory of to, and then
// that of from if it is another one: a power cut between the two leaves both names, never none.
func (f FS) Rename(from, to string) error {
	if err := f.RenameTo(from, to); err != nil || filepath.Dir(from) == filepath.Dir(to) {
		return err
	}
	return f.SyncDir(filepath.Dir(from))
}

// RenameTo is Rename without the sync of the directory of from: a power cut soon after it may leave the old name, too.
func (f FS) RenameTo(from, to string) error {
	if err := f.do(OpRename, to, func() error { return os.Rename(from, to) }); err != nil {
		return err
	}
	return f.SyncDir(filepath.Dir(to))
}

// Remove removes a file durably. It is no error if there is none.
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

// MkdirAll creates path and its missing parents, each durably, with the mode perm less the umask. The error is
// syscall.ENOTDIR if a file is in the way.
func (f FS) MkdirAll(path string, perm fs.FileMode) error {
	path = filepath.Clean(path)
	parent := filepath.Dir(path)
	there, err := isDir(path)
	if err != nil {
		return err
	}
	if there {
		// A crash may have come after it was created and before its parent was synced. Of all directories that exist,
		// this is possible only for the lowest one. If we may not read or write the parent, we did not create it.
		err := f.SyncDir(parent)
		if errors.Is(err, fs.ErrPermission) || status.ReadOnly(err) {
			return nil
		}
		return err
	}
	if err := f.MkdirAll(parent, perm); err != nil {
		return err
	}
	return f.Mkdir(path, perm)
}

// Mkdir creates a directory durably, in a parent whose own name is durable. It is no error if the directory is there
// already; its name becomes durable, too.
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

// isDir reports whether path is a directory. The error is syscall.ENOTDIR if it is something else.
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

// SyncDir makes the names in a directory durable.
func (f FS) SyncDir(dir string) error {
	return f.do(OpSyncDir, dir, func() error { return syncDir(dir) })
}

// Link gives a file a second name, which must not exist. The caller syncs the directory of to.
func (f FS) Link(from, to string) error {
	return f.do(OpLink, to, func() error { return os.Link(from, to) })
}

// RemoveTemps removes the temporary files that a crash left in dir. The caller must be the only writer in dir.
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
