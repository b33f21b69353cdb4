//go:build unix

package disk

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// NonBlock is a flag for opening a file: it does not wait for the writer of a pipe.
const NonBlock = syscall.O_NONBLOCK

// UnixModes says that the mode of a file tells who can read it, and whether it is a program.
const UnixModes = true

// OpenNoFollow opens a file as os.OpenFile does, but neither follows a symbolic link, for which the error is ErrNotRegular,
// nor waits for the writer of a pipe.
func OpenNoFollow(path string, flag int, perm fs.FileMode) (*os.File, error) {
	f, err := os.OpenFile(path, flag|unix.O_NOFOLLOW|unix.O_NONBLOCK, perm)
	if errors.Is(err, unix.ELOOP) {
		return nil, notRegular(path)
	}
	return f, err
}

// HasOneName reports whether an open file is a regular one without a second name.
func HasOneName(f *os.File) bool {
	var st unix.Stat_t
	return unix.Fstat(int(f.Fd()), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Nlink == 1
}

// Allocated returns how many bytes of the disk a file takes. info must come from the file system.
func Allocated(info fs.FileInfo) int64 {
	const sector = 512
	return info.Sys().(*syscall.Stat_t).Blocks * sector
}

// lockFile locks an open file for this process alone. busy says that another process has the lock.
func lockFile(f *os.File) (busy bool, err error) {
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	return errors.Is(err, syscall.EWOULDBLOCK), err
}

func unlockFile(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }

// syncDir makes the names in a directory durable.
func syncDir(dir string) (err error) {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return d.Sync()
}

func spaceOf(dir string) (Space, error) {
	st, err := statfs(dir)
	if err != nil {
		return Space{}, err
	}
	return Space{
		Free: int64(st.Bavail) * int64(st.Bsize), Size: int64(st.Blocks) * int64(st.Bsize),
		FreeFiles: int64(st.Ffree), Files: int64(st.Files),
		ReadOnly: st.Flags&readOnlyFlag != 0, NoExec: st.Flags&noExecFlag != 0,
	}, nil
}

// statfs repeats the system call when a signal interrupts it.
func statfs(dir string) (st unix.Statfs_t, err error) {
	err = unix.Statfs(dir, &st)
	for errors.Is(err, unix.EINTR) {
		err = unix.Statfs(dir, &st)
	}
	return st, err
}
