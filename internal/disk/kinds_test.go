package disk_test

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/status"
)

// TestDiskFaults: what a file system says of bytes that it can't give back, by whatever word, is damage of that file and a
// fault of the disk alone.
func TestDiskFaults(t *testing.T) {
	for err, want := range map[error][3]bool{ // no space, unreadable, of the disk alone
		syscall.EIO:     {false, true, true},
		syscall.EUCLEAN: {false, true, true}, // of ext4, xfs: the structure is damaged
		syscall.EBADMSG: {false, true, true}, // of ext4, f2fs, ubifs: a checksum does not fit
		syscall.EROFS:   {false, false, true},
		syscall.ENOSPC:  {true, false, true},
		syscall.EDQUOT:  {true, false, true},
		syscall.ENOENT:  {},
		syscall.EACCES:  {},
	} {
		wrapped := fmt.Errorf("read it: %w", err)
		if got := [3]bool{status.NoSpace.In(wrapped), status.Unreadable(wrapped), disk.Fault(wrapped)}; got != want {
			t.Errorf("%v: no space, unreadable and of the disk are %v, want %v", err, got, want)
		}
	}
}
