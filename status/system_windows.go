package status

import (
	"syscall"

	"golang.org/x/sys/windows"
)

// Errors of the system by their kinds. Unreadable ones say that a disk lost data.
var (
	full       = []syscall.Errno{windows.ERROR_DISK_FULL, windows.ERROR_HANDLE_DISK_FULL, windows.ERROR_DISK_QUOTA_EXCEEDED}
	unreadable = []syscall.Errno{windows.ERROR_CRC, windows.ERROR_IO_DEVICE, windows.ERROR_FILE_CORRUPT, windows.ERROR_DISK_CORRUPT, windows.ERROR_SECTOR_NOT_FOUND}
	readOnly   = windows.ERROR_WRITE_PROTECT
)
