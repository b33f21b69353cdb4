package disk

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

// NonBlock is a flag for opening a file, which does nothing here: named pipes are no files.
const NonBlock = 0

// UnixModes says that the mode of a file tells neither who can read it, which the access list of its directory does, nor
// whether it is a program.
const UnixModes = false

// OpenNoFollow opens a file as os.OpenFile does, but refuses a symbolic link with ErrNotRegular. Another program could put
// one there between the look and the opening; in a directory of this user, none does. The file may be renamed and removed
// while it is open, as on other systems.
func OpenNoFollow(path string, flag int, perm fs.FileMode) (*os.File, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode()&(fs.ModeSymlink|fs.ModeIrregular) != 0 {
		return nil, notRegular(path)
	}
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	access := map[int]uint32{
		os.O_RDONLY: windows.GENERIC_READ, os.O_WRONLY: windows.GENERIC_WRITE, os.O_RDWR: windows.GENERIC_READ | windows.GENERIC_WRITE,
	}[flag&(os.O_WRONLY|os.O_RDWR)]
	mode := uint32(windows.OPEN_EXISTING)
	switch {
	case flag&(os.O_CREATE|os.O_EXCL) == os.O_CREATE|os.O_EXCL:
		mode = windows.CREATE_NEW
	case flag&os.O_CREATE != 0:
		mode = windows.OPEN_ALWAYS
	}
	const share = windows.FILE_SHARE_READ | windows.FILE_SHARE_WRITE | windows.FILE_SHARE_DELETE
	h, err := windows.CreateFile(name, access, share, nil, mode, windows.FILE_ATTRIBUTE_NORMAL, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(h), path), nil
}

// HasOneName reports whether an open file is a regular one without a second name.
func HasOneName(f *os.File) bool {
	info, err := byHandle(f)
	return err == nil && info.NumberOfLinks == 1 && info.FileAttributes&windows.FILE_ATTRIBUTE_DIRECTORY == 0
}

// Allocated returns the size of a file, which is about what it takes of the disk.
func Allocated(info fs.FileInfo) int64 { return info.Size() }

// beyond is the byte that stands for a locked file. Windows keeps other processes from reading a locked byte, and the file
// holds the ID of the process, so the byte lies beyond its end.
var beyond = windows.Overlapped{OffsetHigh: 1 << 30}

// lockFile locks an open file for this process alone. busy says that another process has the lock.
func lockFile(f *os.File) (busy bool, err error) {
	at := beyond
	err = windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &at)
	return errors.Is(err, windows.ERROR_LOCK_VIOLATION), err
}

func unlockFile(f *os.File) error {
	at := beyond
	return windows.UnlockFileEx(windows.Handle(f.Fd()), 0, 1, 0, &at)
}

// syncDir does nothing: Windows can't sync a directory. NTFS writes changes of names to its journal in their order, so that
// after a power cut the newest of them may be missing, but not an older one alone.
func syncDir(string) error { return nil }

func spaceOf(dir string) (Space, error) {
	path, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return Space{}, err
	}
	var free, size uint64
	if err := windows.GetDiskFreeSpaceEx(path, &free, &size, nil); err != nil {
		return Space{}, err
	}
	return Space{Free: int64(free), Size: int64(size)}, nil
}

// StampOf returns the stamp of a file, which here lacks its identity. info must come from the file system.
func StampOf(info fs.FileInfo) Stamp {
	return Stamp{Size: info.Size(), Modified: info.ModTime().UnixNano(), Changed: info.ModTime().UnixNano()}
}

func byHandle(f *os.File) (info windows.ByHandleFileInformation, err error) {
	err = windows.GetFileInformationByHandle(windows.Handle(f.Fd()), &info)
	return info, err
}
