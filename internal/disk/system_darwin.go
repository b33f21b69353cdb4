package disk

import (
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Allocate does nothing: a write may find the disk full.
func Allocate(*os.File, int64) error { return nil }

// StartWriting does nothing.
func StartWriting(*os.File, int64, int64) {}

// DropCached does nothing.
func DropCached(*os.File, int64, int64) {}

// YieldDisk does nothing.
func YieldDisk() {}

// HasCapabilities reports false: macOS has no file capabilities.
func HasCapabilities(*os.File) bool { return false }

func spaceOf(dir string) (Space, error) {
	st, err := statfs(dir)
	if err != nil {
		return Space{}, err
	}
	return Space{
		Free: int64(st.Bavail) * int64(st.Bsize), Size: int64(st.Blocks) * int64(st.Bsize),
		FreeFiles: int64(st.Ffree), Files: int64(st.Files),
		ReadOnly: st.Flags&unix.MNT_RDONLY != 0, NoExec: st.Flags&unix.MNT_NOEXEC != 0,
	}, nil
}

// StampOf returns the stamp of a file. info must come from the file system.
func StampOf(info fs.FileInfo) Stamp {
	st := info.Sys().(*syscall.Stat_t)
	return Stamp{uint64(st.Dev), st.Ino, st.Size, st.Mtimespec.Nano(), st.Ctimespec.Nano()}
}

// StampOpen returns the stamp of an open file.
func StampOpen(f *os.File) (Stamp, error) {
	info, err := f.Stat()
	if err != nil {
		return Stamp{}, err
	}
	return StampOf(info), nil
}
