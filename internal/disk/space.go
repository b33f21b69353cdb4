package disk

import (
	"errors"
	"fmt"

	"github.com/openpowerquality/box-update-server/status"
)

// ErrNoSpace says that a disk is full: it has no bytes, inodes or quota left, or less than is needed. Writes of this package
// return it; AsNoSpace makes it of errors of the system elsewhere.
var ErrNoSpace error = status.NoSpace

// AsNoSpace returns err, and makes it ErrNoSpace if it is the error of the system for a full disk. It returns nil for nil.
func AsNoSpace(err error) error {
	if !status.NoSpace.In(err) || errors.Is(err, ErrNoSpace) {
		return err
	}
	return &full{err}
}

// full is the error of the system for a full disk, in its words.
type full struct{ err error }

func (e *full) Error() string   { return e.err.Error() }
func (e *full) Unwrap() []error { return []error{e.err, ErrNoSpace} }

// Fault reports whether an error is about the disk, which is full, read-only or broken, and not about the data that were to
// be read or written, or their sender.
func Fault(err error) bool {
	return status.NoSpace.In(err) || status.Unreadable(err) || status.ReadOnly(err)
}

// Space is the room on a file system.
type Space struct {
	Free, Size       int64 // bytes that this process may use, and all bytes
	FreeFiles, Files int64 // inodes; Files is 0 where they are not counted

	ReadOnly, NoExec bool // how it is mounted
}

// SpaceOf returns the room on the file system of a directory.
func SpaceOf(dir string) (Space, error) {
	space, err := spaceOf(dir)
	if err != nil {
		return Space{}, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return space, nil
}

// CheckSpace returns ErrNoSpace if need bytes in a directory would leave less than reserve bytes free on its disk.
func CheckSpace(dir string, need, reserve int64) error {
	space, err := SpaceOf(dir)
	if err != nil || space.Free-reserve >= need {
		return err
	}
	return fmt.Errorf("%w: %d bytes are needed in %s, %d are free and %d of them are reserved", ErrNoSpace, need, dir, space.Free, reserve)
}
