package disk

import (
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Stamp tells a file from another one at its path, and its bytes from those that it held before: every write, rename
// and removal moves the change time. It is comparable.
type Stamp struct {
	Device, Inode uint64
	Size          int64 // bytes

	// In nanoseconds since 1970. They wrap around for times centuries away, which keeps them comparable and keeps
	// the years that reach clients printable.
	Modified, Changed int64
}

// StampOf returns the stamp of what info, which comes from the file system, describes.
func StampOf(info fs.FileInfo) Stamp {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok { // no file system of Linux gives such a thing
		return Stamp{Size: info.Size(), Modified: info.ModTime().UnixNano(), Changed: info.ModTime().UnixNano()}
	}
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

// SameFile reports whether both are of one file, whatever it holds.
func (s Stamp) SameFile(t Stamp) bool { return s.Device == t.Device && s.Inode == t.Inode }

// SameBytes reports whether size and modification time are the same in both. Of one file, this tells that nobody wrote
// to it: a removal, another link or another mode moves the change time alone.
func (s Stamp) SameBytes(t Stamp) bool { return s.Size == t.Size && s.Modified == t.Modified }

// ModTime returns when the file was written to last.
func (s Stamp) ModTime() time.Time { return time.Unix(0, s.Modified).UTC() }

// ChangeTime returns when the file was written, renamed, linked or given another mode last.
func (s Stamp) ChangeTime() time.Time { return time.Unix(0, s.Changed).UTC() }
