package disk

import (
	"io/fs"
	"syscall"

	"golang.org/x/sys/unix"
)

// How a file system is mounted: the flags of statfs(2).
const (
	readOnlyFlag = unix.MNT_RDONLY
	noExecFlag   = unix.MNT_NOEXEC
)

// StampOf returns the stamp of a file. info must come from the file system.
func StampOf(info fs.FileInfo) Stamp {
	st := info.Sys().(*syscall.Stat_t)
	return Stamp{uint64(st.Dev), st.Ino, st.Size, st.Mtimespec.Nano(), st.Ctimespec.Nano()}
}
