package box

import (
	"errors"

	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update/install"
)

// DiskError gives an error of the local disk its exit code and a hint; others stay as they are, and so does the failure of a
// check after an installation, which is told first.
func DiskError(err error) error {
	if errors.Is(err, install.ErrRolledBack) || errors.Is(err, install.ErrDamaged) || !status.NoSpace.In(err) && !status.Machine.In(err) {
		return err
	}
	return status.WithHint(status.Coded(err), status.BoxHint(err, ""))
}
