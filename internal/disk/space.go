package disk

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/openpowerquality/box-update-server/status"
)

// ErrNoSpace says that a disk is full: that it has no bytes, no inodes or no quota left, or less than is needed. What
// the writes of this package return is made of it; AsNoSpace makes it of what the system says elsewhere.
var ErrNoSpace error = status.NoSpace

// AsNoSpace returns err, which is ErrNoSpace, too, where the system says in it that a disk is full. It returns nil for nil.
func AsNoSpace(err error) error {
	if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) || errors.Is(err, ErrNoSpace) {
		return err
	}
	return &full{err}
}

// full is what the system says of a full disk, in its words.
type full struct{ err error }

func (e *full) Error() string   { return e.err.Error() }
func (e *full) Unwrap() []error { return []error{e.err, ErrNoSpace} }

// NoSpace reports whether an error says that a disk is full, in the words of the system or as ErrNoSpace.
func NoSpace(err error) bool { return errors.Is(AsNoSpace(err), ErrNoSpace) }

// Unreadable reports whether an error says that a disk can't give back what it was given: the sector can't be read, or
// the file system finds its structure or a checksum damaged. Reading again does not help.
func Unreadable(err error) bool {
	return errors.Is(err, syscall.EIO) || errors.Is(err, syscall.EUCLEAN) || errors.Is(err, syscall.EBADMSG)
}

// Fault reports whether an error is one of the disk alone: it is full, read-only or broken. It says nothing
// about what was to be written or read, nor about whoever sent that.
func Fault(err error) bool {
	return NoSpace(err) || Unreadable(err) || errors.Is(err, syscall.EROFS)
}

// Space is what a file system has.
type Space struct {
	Free, Size       int64 // bytes: what this process may use, and all
	FreeFiles, Files int64 // inodes; Files is 0 where they are not counted

	ReadOnly, NoExec bool // how it is mounted
}

// SpaceOf returns what the file system of a directory has.
func SpaceOf(dir string) (Space, error) {
	var st unix.Statfs_t
	err := unix.Statfs(dir, &st)
	for errors.Is(err, unix.EINTR) {
		err = unix.Statfs(dir, &st)
	}
	if err != nil {
		return Space{}, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return Space{
		Free: int64(st.Bavail) * int64(st.Bsize), Size: int64(st.Blocks) * int64(st.Bsize),
		FreeFiles: int64(st.Ffree), Files: int64(st.Files),
		ReadOnly: st.Flags&unix.ST_RDONLY != 0, NoExec: st.Flags&unix.ST_NOEXEC != 0,
	}, nil
}

// CheckSpace refuses, with ErrNoSpace, to use need bytes of the disk of a directory where less than reserve would be left.
func CheckSpace(dir string, need, reserve int64) error {
	space, err := SpaceOf(dir)
	if err != nil || space.Free-reserve >= need {
		return err
	}
	return fmt.Errorf("%w: %d bytes are needed in %s, %d are free and %d of them are reserved", ErrNoSpace, need, dir, space.Free, reserve)
}
