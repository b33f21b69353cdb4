package status

import "syscall"

// Errors of the system by their kinds. Unreadable ones say that a disk lost data.
var (
	full       = []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT}
	unreadable = []syscall.Errno{syscall.EIO, syscall.EBADMSG}
	readOnly   = syscall.EROFS
)
