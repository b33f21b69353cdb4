package disk

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Allocate sets the space of an open file aside, so that a full disk shows now. Where the file system can't, it does
// nothing.
func Allocate(f *os.File, length int64) error {
	err := unix.Fallocate(int(f.Fd()), 0, 0, length)
	for errors.Is(err, unix.EINTR) {
		err = unix.Fallocate(int(f.Fd()), 0, 0, length)
	}
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return err
}

// StartWriting asks the kernel to begin writing bytes that are synced later. It is only a hint.
func StartWriting(f *os.File, offset, length int64) {
	_ = unix.SyncFileRange(int(f.Fd()), offset, length, unix.SYNC_FILE_RANGE_WRITE)
}

// DropCached asks the kernel to read bytes from the disk the next time, and not from memory; a length of 0 stands for all. It
// is only a hint.
func DropCached(f *os.File, offset, length int64) {
	_ = unix.Fadvise(int(f.Fd()), offset, length, unix.FADV_DONTNEED)
}

// YieldDisk gives the thread of the caller the lowest priority on the disk, where there are priorities. The caller locks the
// goroutine to its thread.
func YieldDisk() {
	const thisThread, idle = 1, 3 << 13
	_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, thisThread, 0, idle)
}

// HasCapabilities reports whether an open file has file capabilities: see capabilities(7).
func HasCapabilities(f *os.File) bool {
	n, err := unix.Fgetxattr(int(f.Fd()), "security.capability", nil)
	return err == nil && n > 0
}

// How a file system is mounted: the flags of statfs(2).
const (
	readOnlyFlag = unix.ST_RDONLY
	noExecFlag   = unix.ST_NOEXEC
)

// StampOf returns the stamp of a file. info must come from the file system.
func StampOf(info fs.FileInfo) Stamp {
	st := info.Sys().(*syscall.Stat_t)
	return Stamp{uint64(st.Dev), st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano()}
}

// StampOpen returns the stamp of an open file.
func StampOpen(f *os.File) (Stamp, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return Stamp{}, os.NewSyscallError("fstat", err)
	}
	return Stamp{uint64(st.Dev), st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano()}, nil
}
