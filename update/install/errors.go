package install

import (
	"errors"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/status"
)

// Refusals. They leave the box as it was.
var (
	// ErrLocked says that another process installs.
	ErrLocked = disk.ErrLocked

	// ErrMismatch says that the file isn't the archive that was verified.
	ErrMismatch error = status.Unverified

	// ErrProduct says that the update is of another product.
	ErrProduct error = status.OtherProduct

	// ErrDowngrade says that the version is lower than the installed one.
	ErrDowngrade error = status.Downgrade

	// ErrInstalled says that the version is installed already.
	ErrInstalled = errors.New("installed already")

	// ErrSetAside says that the version failed too often.
	ErrSetAside error = status.SetAside

	// ErrBox says that the box itself prevents the installation: its disk is read-only or fails, or it lacks the
	// memory to start a program. It counts against no update.
	ErrBox error = status.Machine.With("not possible on this box now")
)

// Failures. Status reports them.
var (
	// ErrHook says that a hook of PreHooks failed: the update was not tried.
	ErrHook error = status.HookFailed

	// ErrScript says that the install script failed or was ended.
	ErrScript error = status.ScriptFailed

	// ErrRolledBack says that a hook of PostHooks failed and the update before is installed again.
	ErrRolledBack error = status.RolledBack

	// ErrDamaged says that a hook of PostHooks failed and the box could not go back.
	ErrDamaged error = status.NoWayBack
)
