package status

import "syscall"

// Errors of the system by their kinds. Unreadable ones say that a disk lost data: a sector can't be read, or the file system
// finds its structure or a checksum damaged.
var (
	full       = []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT}
	unreadable = []syscall.Errno{syscall.EIO, syscall.EUCLEAN, syscall.EBADMSG}
	readOnly   = syscall.EROFS
)
