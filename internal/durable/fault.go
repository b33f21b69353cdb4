package durable

import (
	"errors"
	"syscall"
)

// NoSpace reports whether an error says that a disk is full: that it has no bytes, no inodes or no quota left.
func NoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// DiskFault reports whether an error is one of the disk alone: it is full, read-only or broken. It says nothing
// about what was to be written or read, nor about whoever sent that.
func DiskFault(err error) bool {
	return NoSpace(err) || errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.EIO) || errors.Is(err, syscall.EUCLEAN)
}
