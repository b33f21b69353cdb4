package box

import (
	"errors"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update/install"
)

// What to do about the disk of this box.
const (
	makeRoom      = "make room; nothing was counted against an update, and the next run goes on"
	lookAfterDisk = "the disk of this box is read-only or fails: look after it; nothing was counted against an update, and the next run goes on"
)

// DiskError gives an error of the local disk its exit code and a hint; others stay as they are.
func DiskError(err error) error {
	switch {
	case errors.Is(err, install.ErrRolledBack), errors.Is(err, install.ErrDamaged):
		return err // what is to be told first
	case disk.NoSpace(err):
		return status.WithHint(status.WithCode(err, status.ExitNoSpace), makeRoom)
	case disk.Fault(err):
		return status.WithHint(status.WithCode(err, status.ExitFailed), lookAfterDisk)
	}
	return err
}
