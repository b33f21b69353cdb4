package disk

import (
	"errors"
	"syscall"
)

// NoSpace reports whether an error says that a disk is full: that it has no bytes, no inodes or no quota left.
func NoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

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
