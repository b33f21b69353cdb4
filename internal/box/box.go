// Package box is what boxup does on a box: it asks untrusted mirrors for updates, verifies everything that they send
// against the root that the box was given, and installs the updates that are meant for this box. A box without a root
// can do the same with a public key and detached signatures.
//
// A box has a configuration, which is one JSON file, and a state directory, in which at most one process makes changes
// at a time.
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
//	boxup.lock   locked by the boxup that makes changes
//	box.json     see record
//	metadata/    the trusted metadata, see trust.State
//	staging/     an update that is being fetched; sha256/, targets/: one that is complete; see package store
//	install/     what is installed, see package install
const (
	lockName      = "boxup.lock"
	metadataDir   = "metadata"
	stagingDir    = "staging"
	blobDir       = "sha256"
	targetsDir    = "targets"
	quarantineDir = "quarantine"
)

// Default paths.
const (
	DefaultConfig = "/etc/boxup/config.json"
	DefaultState  = settings.DefaultState
)

// Box is the machine to keep up to date, with everything that the package uses of the outside world.
type Box struct {
	ConfigPath    string // configuration file
	StateDir      string // state directory; "": as configured
	MachineIDFile string // file with the machine id of the system

	Version string    // version of this program
	Built   time.Time // when this program was built: a clock that shows an earlier time is wrong; zero: not known

	FS     disk.FS
	Now    func() time.Time
	Sleep  func(context.Context, time.Duration) error
	Random func() float64 // from 0 to below 1; it spreads the requests of a fleet

	Warn     func(message string)
	Logger   *slog.Logger                        // for the packages that this one uses
	Progress func(rel trust.Release, done int64) // is told how many bytes of an archive are here
}

func (b *Box) warn(format string, args ...any) { b.Warn(fmt.Sprintf(format, args...)) }

func (b *Box) userAgent() string { return "boxup/" + b.Version }

// DiskError adds an exit code and a hint to an error of the local disk. It returns other errors as they are, and also an
// error that contains install.ErrRolledBack or install.ErrDamaged: what became of the installation is more important.
func DiskError(err error) error {
	if errors.Is(err, install.ErrRolledBack) || errors.Is(err, install.ErrDamaged) || !status.NoSpace.In(err) && !status.Machine.In(err) {
		return err
	}
	return status.WithHint(status.Coded(err), status.BoxHint(err, ""))
}
