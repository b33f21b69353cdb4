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
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/internal/settings"
	"github.com/openpowerquality/box-update-server/mirror/fetch"
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

func (p *Box) warn(format string, args ...any) { p.Warn(fmt.Sprintf(format, args...)) }

func (p *Box) userAgent() string { return "boxup/" + p.Version }

// The exit codes beside those that every command has and those of fetching.
const (
	CodeLocked     = 6                     // another boxup is running
	CodeAvailable  = 10                    // an update is there for this box
	CodeHeld       = status.ExitHeld       // an update is there and waits: maintenance window, daily cap, set aside
	CodeImproper   = status.ExitImproper   // the archive is no proper update
	CodeScript     = status.ExitScript     // the install script failed
	CodeRolledBack = status.ExitRolledBack // the check after the installation failed
)

// box is a box with its configuration, and its state directory for this process alone.
type box struct {
	*Box
	config
	dir     string
	machine string
	pinned  []byte

	lock   *disk.Lock // nil: for reading only
	state  *trust.State
	record record

	client *fetch.Client // nil until it is needed
	asked  []Mirror      // the mirrors of client, in its order
}

// configuration reads the configuration and the root.
func (p *Box) configuration() (config, []byte, error) {
	c, err := p.settings()
	if err != nil {
		return config{}, nil, err
	}
	root, err := p.readRoot(c)
	return c, root, err
}

// settings reads the configuration of a box that has a root.
func (p *Box) settings() (config, error) {
	c, err := readConfig(p.ConfigPath)
	if errors.Is(err, fs.ErrNotExist) {
		return config{}, status.WithHint(err, "tell the box whom to trust and whom to ask with boxup init --root FILE URL…")
	}
	if err != nil {
		return config{}, err
	}
	if info, err := os.Stat(p.ConfigPath); err == nil && hasPassword(c.Mirrors) && info.Mode().Perm()&0o077 != 0 {
		p.warn("others may read the password in %s: chmod 600 it", p.ConfigPath)
	}
	if p.StateDir != "" {
		c.State = p.StateDir
	}
	if len(c.Mirrors) == 0 || c.Root == "" {
		return config{}, status.WithHint(fmt.Errorf("configuration: %s: expected mirrors and root", p.ConfigPath), "boxup init writes them")
	}
	return c, nil
}

// againRoot is what to do about a root that can't be used.
const againRoot = "get the file again from whoever made the repository"

// readRoot returns the root file from which trust comes. Where the disk damaged it, that is the copy which lies beside
// the metadata that were verified by it.
func (p *Box) readRoot(c config) ([]byte, error) {
	root, err := disk.ReadFile(c.Root, trust.MaxLength(trust.RoleRoot))
	if err == nil {
		if _, err = trust.ParseRoot(root); err == nil {
			return root, nil
		}
	} else if !disk.Unreadable(err) {
		return nil, status.WithHint(fmt.Errorf("root: %w", err), againRoot)
	}
	dir := filepath.Join(c.State, metadataDir)
	copies, _ := trust.Roots(dir) // more than the first are not needed
	if len(copies) == 0 {
		return nil, status.WithHint(explain.At(c.Root, err), againRoot)
	}
	path := filepath.Join(dir, trust.FileName(trust.RoleRoot, copies[0].Version()))
	p.warn("%s is damaged: its copy is used, which this command brings back: cp %s %s (%v)", c.Root, path, c.Root, err)
	return copies[0].Raw(), nil
}

// lockBox makes this the one boxup that works on the state directory, which it makes where it is missing. The
// caller closes the box.
func (p *Box) lockBox(c config, root []byte) (*box, error) {
	if err := c.checkProduct(); err != nil {
		return nil, err
	}
	lock, err := p.takeLock(c.State)
	if err != nil {
		return nil, err
	}
	return &box{Box: p, config: c, dir: c.State, pinned: root, lock: lock}, nil
}

// open opens the state directory. The caller closes the box.
func (p *Box) open() (*box, error) {
	c, root, err := p.configuration()
	if err != nil {
		return nil, err
	}
	b, err := p.lockBox(c, root)
	if err != nil {
		return nil, err
	}
	if err := b.load(); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// look opens the state directory for reading, beside whoever works on it. Nothing is to be closed.
func (p *Box) look() (*box, error) {
	c, pinned, err := p.configuration()
	if err != nil {
		return nil, err
	}
	b := &box{Box: p, config: c, dir: c.State, pinned: pinned}
	if err := b.read(); err != nil {
		return nil, err
	}
	return b, b.openState()
}

// takeLock makes this the one boxup that works on a state directory.
func (p *Box) takeLock(dir string) (*disk.Lock, error) {
	if err := p.FS.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	lock, err := disk.TryLock(filepath.Join(dir, lockName))
	if err != nil {
		return nil, locked(fmt.Errorf("state: %w", err))
	}
	if err := p.FS.RemoveTemps(dir); err != nil {
		return nil, errors.Join(fmt.Errorf("state: %w", err), lock.Unlock())
	}
	return lock, nil
}

// locked says who is at work where a lock is held.
func locked(err error) error {
	if errors.Is(err, disk.ErrLocked) {
		return status.WithCode(status.WithHint(err, "another boxup is at work: wait until it is done; boxup status says what is known"), CodeLocked)
	}
	return err
}

func (b *box) load() error {
	if err := b.read(); err != nil {
		return err
	}
	if err := b.openState(); err != nil {
		return err
	}
	b.mend()
	return status.Coded(b.remember())
}

// mend writes metadata again that the disk damaged. Where that fails, what is in memory is right all the same.
func (b *box) mend() {
	damage := b.state.Damage()
	if len(damage) == 0 {
		return
	}
	for _, d := range damage {
		b.warn("the disk damaged a file, which is written again: %v", d)
	}
	if err := b.state.Mend(); err != nil {
		b.warn("trusted metadata not written again: %v", err)
	}
}

// checkProduct refuses the state directory of another product, whose versions say nothing about this one's.
func (c *config) checkProduct() error {
	s, err := install.ReadStatus(c.State)
	if err != nil || s.Installed == nil || s.Installed.Name.Product() == c.Product {
		return nil // what can't be read, the installer tells of
	}
	return refused(status.WithHint(fmt.Errorf("%s: expected updates of product %s, got %v", c.State, c.Product, s.Installed.Name),
		`give each product a state directory of its own: "state" in the configuration, or --state`))
}

// read reads what the box remembers beside the trusted metadata.
func (b *box) read() (err error) {
	if b.record, err = readRecord(b.dir); err != nil {
		b.warn("%v", err)
	}
	b.record.arrange(b.Mirrors, b.Random)
	b.machine, err = b.record.machine(b.MachineID, b.MachineIDFile)
	return err
}

// openState opens the trusted metadata.
func (b *box) openState() (err error) {
	b.state, err = trust.Open(trust.Config{FS: b.FS, Dir: filepath.Join(b.dir, metadataDir), Pinned: b.pinned, RootsAsked: b.record.RootsAsked})
	if errors.Is(err, trust.ErrFork) {
		err = status.WithHint(err, "to trust another root from now on say boxup init --replace-root")
	}
	if err != nil {
		return refused(fmt.Errorf("trusted metadata: %w", err))
	}
	return nil
}

func (b *box) remember() error { return b.record.write(b.FS, b.dir) }

// Close releases the state directory.
func (b *box) Close() error {
	if b.client != nil {
		b.client.Close()
	}
	return b.lock.Unlock()
}

// withBox runs a command that changes the state.
func (p *Box) withBox(run func(*box) error) (err error) {
	b, err := p.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	return run(b)
}

// withInstallingBox runs a command that installs. What was interrupted is finished first, whatever is wrong
// with root and trusted metadata: services may be stopped.
func (p *Box) withInstallingBox(ctx context.Context, run func(*box, *install.Installer) error) (err error) {
	c, err := p.settings()
	if err != nil {
		return err
	}
	root, lost := p.readRoot(c)
	if lost != nil && !c.interrupted() {
		return lost
	}
	b, err := p.lockBox(c, root)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	return p.withInstaller(ctx, c, func(i *install.Installer) error {
		if lost != nil {
			return lost
		}
		if err := b.load(); err != nil {
			return err
		}
		return run(b, i)
	})
}

// interrupted reports whether an installation was interrupted, so that services may be stopped.
func (c *config) interrupted() bool {
	s, err := install.ReadStatus(c.State)
	return err == nil && s.Attempt != nil
}

func (b *box) clock() trust.Clock {
	return trust.Clock{Now: b.Now(), Built: b.Built, AcceptStale: b.AcceptStale}
}

// at returns the reference time by what is trusted.
func (b *box) at(repo *trust.Repository) time.Time { return repo.Reference(b.clock()) }

// trusted returns the repository that is trusted, unless it is expired.
func (b *box) trusted() (*trust.Repository, error) {
	repo, err := b.state.Current()
	if err != nil {
		return nil, status.WithHint(fmt.Errorf("nothing is known of updates yet: %w", err), "ask the mirrors with boxup check")
	}
	if err := repo.Fresh(b.clock()); err != nil {
		return nil, refused(status.WithHint(fmt.Errorf("what is known of updates: %w", err), "ask the mirrors with boxup check"))
	}
	return repo, nil
}

// isFile reports whether an argument is a file, rather than the name of an update.
func isFile(arg string) bool {
	if filepath.Base(arg) != arg {
		return true
	}
	info, err := os.Stat(arg)
	return err == nil && !info.IsDir()
}
