// Package box is what boxup does on a box: it asks mirrors that nobody has to trust for updates, verifies all that they
// send against the root that the box was given, and installs what is meant for this box. Without a root it does the
// same by a public key and detached signatures.
//
// A box has a configuration, one JSON file, and a state directory, in which at most one process works at a time.
package box

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/settings"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update/install"
)

// What lies in the state directory:
//
//	boxup.lock   held by the one boxup that changes something
//	box.json     see record
//	metadata/    the trusted metadata, see trust.State
//	staging/     an update on its way in; sha256/, targets/: one that has arrived; see package store
//	install/     what is installed, see package install
const (
	lockName      = "boxup.lock"
	metadataDir   = "metadata"
	stagingDir    = "staging"
	blobDir       = "sha256"
	targetsDir    = "targets"
	quarantineDir = "quarantine"
)

// Where things are by default.
const (
	DefaultConfig = "/etc/boxup/config.json"
	DefaultState  = settings.DefaultState
)

// Box is a machine that is kept up to date, and what it has of the outside world.
type Box struct {
	ConfigPath    string // file of the configuration
	StateDir      string // directory of what the box knows; "": as configured
	MachineIDFile string // file of the system's machine id

	Version string    // of this program
	Built   time.Time // when it was built, before which no clock is believed; zero: not known

	FS     disk.FS
	Now    func() time.Time
	Sleep  func(context.Context, time.Duration) error
	Random func() float64 // from 0 to below 1: spreads a fleet

	Warn     func(message string)
	Logger   *slog.Logger                        // of the packages below
	Progress func(rel trust.Release, done int64) // how many bytes of an archive are here
}

func (b *Box) warn(format string, args ...any) { b.Warn(fmt.Sprintf(format, args...)) }

func (b *Box) userAgent() string { return "boxup/" + b.Version }

// The exit codes of boxup alone.
const (
	CodeLocked    = 6  // another boxup is running
	CodeAvailable = 10 // an update is there for this box
)

// DiskError gives an error of the local disk its exit code and a hint; others stay as they are, and so does the failure of a
// check after an installation, which is told first.
func DiskError(err error) error {
	if errors.Is(err, install.ErrRolledBack) || errors.Is(err, install.ErrDamaged) || !status.NoSpace.In(err) && !status.Machine.In(err) {
		return err
	}
	return status.WithHint(status.Coded(err), status.BoxHint(err, ""))
}
