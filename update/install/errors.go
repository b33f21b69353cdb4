package install

import (
	"errors"

	"github.com/openpowerquality/box-update-server/internal/disk"
)

// Refusals, which leave everything as it was.
var (
	// ErrLocked says that another process installs.
	ErrLocked = disk.ErrLocked

	// ErrMismatch says that the file isn't the archive that was verified.
	ErrMismatch = errors.New("not the verified archive")

	// ErrProduct says that the update is for something else.
	ErrProduct = errors.New("another product")

	// ErrDowngrade says that the version is lower than what is installed.
	ErrDowngrade = errors.New("lower than the version that is installed")

	// ErrInstalled says that the version is installed.
	ErrInstalled = errors.New("installed already")

	// ErrSetAside says that the version failed too often.
	ErrSetAside = errors.New("set aside")

	// ErrNoSpace says that the disk has no room: for the archive, for what is in it, or for what a program that
	// was run wrote. It counts against no update.
	ErrNoSpace = errors.New("not enough free space")

	// ErrBox says that the box itself is in the way: its disk is read-only or fails, or it has no memory for a
	// program. It counts against no update.
	ErrBox = errors.New("not possible on this box now")
)

// Failures, which Status tells of.
var (
	// ErrHook says that a hook of PreHooks failed: the update was not tried.
	ErrHook = errors.New("hook failed")

	// ErrScript says that the install script failed or was ended.
	ErrScript = errors.New("install script failed")

	// ErrRolledBack says that a hook of PostHooks failed, and that the update before is installed again.
	ErrRolledBack = errors.New("check failed, went back to the update before")

	// ErrDamaged says that a hook of PostHooks failed, and that the box could not go back.
	ErrDamaged = errors.New("check failed, and there is no way back")
)
