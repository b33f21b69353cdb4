package box

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/internal/settings"
	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update/install"
)

// session is a box with its configuration and the content of its state directory.
type session struct {
	*Box
	config
	machine string // machine id
	pinned  []byte // root file from which trust comes; nil in the plain mode

	state  *trust.State // nil in the plain mode
	record record

	client *fetch.Client // nil until it is needed
	asked  []Mirror      // the mirrors of client, in its order
}

// readConfiguration reads the configuration of a box, and refuses one without mirrors or root.
func (b *Box) readConfiguration() (config, error) {
	c, err := readConfig(b.ConfigPath)
	if errors.Is(err, fs.ErrNotExist) {
		return config{}, status.WithHint(err, "set the root and the mirrors of this box with boxup init --root FILE URL…")
	}
	if err != nil {
		return config{}, err
	}
	if info, err := os.Stat(b.ConfigPath); err == nil && hasPassword(c.Mirrors) && info.Mode().Perm()&0o077 != 0 {
		b.warn("other users can read the password in %[1]s: run chmod 600 %[1]s", b.ConfigPath)
	}
	if b.StateDir != "" {
		c.State = b.StateDir
	}
	if len(c.Mirrors) == 0 || c.Root == "" {
		return config{}, status.WithHint(fmt.Errorf("configuration: %s: expected mirrors and root", b.ConfigPath), "boxup init writes them")
	}
	return c, nil
}

// againRoot is the hint for a root file that can't be used.
const againRoot = "get the root file again from the signers of the updates"

// readRoot returns the root file from which trust comes. If the disk damaged that file, it warns and returns the copy in
// the state directory, from which the metadata there were verified.
func (b *Box) readRoot(c config) ([]byte, error) {
	root, err := disk.ReadFile(c.Root, trust.MaxLength(trust.RoleRoot))
	if err == nil {
		if _, err = trust.ParseRoot(root); err == nil {
			return root, nil
		}
	} else if !status.Unreadable(err) {
		return nil, status.WithHint(fmt.Errorf("root: %w", err), againRoot)
	}
	dir := filepath.Join(c.State, metadataDir)
	copies, _ := trust.Roots(dir) // after an error, the first may still be there
	if len(copies) == 0 {
		return nil, status.WithHint(explain.At(c.Root, err), againRoot)
	}
	path := filepath.Join(dir, trust.FileName(trust.RoleRoot, copies[0].Version()))
	b.warn("%s is damaged, so its copy is used; restore it with: cp %s %s (%v)", c.Root, path, c.Root, err)
	return copies[0].Raw(), nil
}

// openToRead opens the state directory for reading, also while another boxup makes changes. The session needs no closing.
func (b *Box) openToRead() (*session, error) {
	c, err := b.readConfiguration()
	if err != nil {
		return nil, err
	}
	root, err := b.readRoot(c)
	if err != nil {
		return nil, err
	}
	s := &session{Box: b, config: c, pinned: root}
	return s, s.load()
}

// change locks the state directory, which it makes if it is missing, and calls run with it. run may change the state.
func (b *Box) change(run func(*session) error) error {
	c, err := b.readConfiguration()
	if err != nil {
		return err
	}
	root, err := b.readRoot(c)
	if err != nil {
		return err
	}
	return b.withSession(c, root, func(s *session) error {
		if err := s.loadToChange(); err != nil {
			return err
		}
		return run(s)
	})
}

// withSession locks the state directory, which it makes if it is missing, and calls run with a session for it. Nothing is
// loaded yet.
func (b *Box) withSession(c config, root []byte, run func(*session) error) (err error) {
	lock, err := b.lockState(c)
	if err != nil {
		return err
	}
	s := &session{Box: b, config: c, pinned: root}
	defer func() {
		s.disconnect()
		err = errors.Join(err, lock.Unlock())
	}()
	return run(s)
}

// changeInstalled is like change, with an installer. It finishes an interrupted installation first, even if the root or
// the trusted metadata can't be read.
func (b *Box) changeInstalled(ctx context.Context, run func(*session, *install.Installer) error) error {
	c, err := b.readConfiguration()
	if err != nil {
		return err
	}
	root, err := b.readRoot(c)
	return b.withRecovered(ctx, c, root, err, func(s *session, i *install.Installer) error {
		if err := s.loadToChange(); err != nil {
			return err
		}
		return run(s, i)
	})
}

// withRecovered locks the state directory, finishes an interrupted installation, and calls run. untrusted says why the
// caller has no root or key. It ends the command, but only after an interrupted installation is finished: services may be
// stopped.
func (b *Box) withRecovered(ctx context.Context, c config, root []byte, untrusted error, run func(*session, *install.Installer) error) error {
	if untrusted != nil && !c.interrupted() {
		return untrusted
	}
	return b.withSession(c, root, func(s *session) error {
		return b.withInstaller(ctx, c, func(i *install.Installer) error {
			if untrusted != nil {
				return untrusted
			}
			return run(s, i)
		})
	})
}

// lockState locks the configured state directory. It refuses a directory with updates of another product, because versions
// of different products can't be compared.
func (b *Box) lockState(c config) (*disk.Lock, error) {
	// If the status can't be read, the installer reports it later.
	if s, err := install.ReadStatus(c.State); err == nil && s.Installed != nil && s.Installed.Name.Product() != c.Product {
		return nil, refused(status.WithHint(fmt.Errorf("%s: expected updates of product %s, got %v", c.State, c.Product, s.Installed.Name),
			`give each product a state directory of its own: "state" in the configuration, or --state`))
	}
	return b.lockDir(c.State)
}

// lockDir locks a state directory for this process, makes it if it is missing, and removes temporary files of a crash.
func (b *Box) lockDir(dir string) (*disk.Lock, error) {
	if err := b.FS.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	lock, err := disk.TryLock(filepath.Join(dir, lockName))
	if err != nil {
		return nil, withHolder(fmt.Errorf("state: %w", err))
	}
	if err := b.FS.RemoveTemps(dir); err != nil {
		return nil, errors.Join(fmt.Errorf("state: %w", err), lock.Unlock())
	}
	return lock, nil
}

// withHolder adds a hint and an exit code to the error that another boxup holds the lock. Other errors stay as they are.
func withHolder(err error) error {
	if errors.Is(err, disk.ErrLocked) {
		return status.WithCode(status.WithHint(err, "another boxup is running: wait until it ends; boxup status shows what it does"), status.ExitLocked)
	}
	return err
}

// loadRecord reads the record. A damaged one is only a warning.
func (s *session) loadRecord() {
	var err error
	if s.record, err = readRecord(s.State); err != nil {
		s.warn("%v", err)
	}
}

// load reads the record and opens the trusted metadata.
func (s *session) load() (err error) {
	s.loadRecord()
	s.record.arrangeMirrors(s.Mirrors, s.Random)
	if s.machine, err = s.record.machineID(s.MachineID, s.MachineIDFile); err != nil {
		return err
	}
	s.state, err = trust.Open(trust.Config{FS: s.FS, Dir: filepath.Join(s.State, metadataDir), Pinned: s.pinned, RootsAsked: s.record.RootsAsked})
	if errors.Is(err, trust.ErrFork) {
		err = status.WithHint(err, "to trust another root from now on, run boxup init --replace-root")
	}
	if err != nil {
		return refused(fmt.Errorf("trusted metadata: %w", err))
	}
	return nil
}

// loadToChange is load in a locked state directory: it also repairs damaged metadata files. If that fails, it only warns,
// because the metadata in memory are intact.
func (s *session) loadToChange() error {
	if err := s.load(); err != nil {
		return err
	}
	if damage := s.state.Damage(); len(damage) > 0 {
		for _, d := range damage {
			s.warn("the disk damaged a file of the trusted metadata; writing it again: %v", d)
		}
		if err := s.state.RewriteDamaged(); err != nil {
			s.warn("can't write the trusted metadata again: %v", err)
		}
	}
	return status.Coded(s.saveRecord())
}

// disconnect closes the client, if there is one.
func (s *session) disconnect() {
	if s.client != nil {
		s.client.Close()
	}
}

func (s *session) saveRecord() error { return s.record.write(s.FS, s.State) }

// interrupted reports whether an installation was interrupted, so that services may be stopped.
func (c *config) interrupted() bool {
	s, err := install.ReadStatus(c.State)
	return err == nil && s.Attempt != nil
}

func (s *session) clock() trust.Clock {
	return trust.Clock{Now: s.Now(), Built: s.Built, AcceptStale: s.AcceptStale}
}

// at returns the reference time of a trusted repository.
func (s *session) at(repo *trust.Repository) time.Time { return repo.Reference(s.clock()) }

// trusted returns the trusted repository. It refuses one that is expired, and it is an error if there is none.
func (s *session) trusted() (*trust.Repository, error) {
	repo, err := s.state.Current()
	if errors.Is(err, trust.ErrNotFound) && s.record.Checked.IsZero() && s.record.Error == "" {
		return nil, status.WithHint(errors.New("no mirror was asked yet"), "run boxup check")
	}
	if err != nil {
		return nil, status.WithHint(fmt.Errorf("nothing is known about updates yet: %w", err), "ask the mirrors with boxup check")
	}
	if err := repo.Fresh(s.clock()); err != nil {
		return nil, refused(status.WithHint(fmt.Errorf("the known metadata: %w", err), "ask the mirrors with boxup check"))
	}
	return repo, nil
}

// isFile reports whether an argument is a file rather than the name of an update: it has a slash, or a file of that name
// exists.
func isFile(arg string) bool {
	if filepath.Base(arg) != arg {
		return true
	}
	info, err := os.Stat(arg)
	return err == nil && !info.IsDir()
}

// config is the configuration of a box.
type config struct{ settings.Box }

// readConfig reads the configuration at path.
func readConfig(path string) (config, error) {
	c, err := settings.ReadBox(path)
	return config{c}, err
}

// parseConfig parses the configuration b, which lies at path.
func parseConfig(path string, b []byte) (config, error) {
	c, err := settings.ParseBox(path, b)
	return config{c}, err
}

// hasPassword reports whether one of the URLs has a user or a password, which other users of the box must not read.
func hasPassword(urls []string) bool {
	return slices.ContainsFunc(urls, func(s string) bool { return explain.MaskURLs(s) != s })
}

// certificates returns the certificate authorities in the configured file, nil for those of the system.
func (c *config) certificates() (*x509.CertPool, error) {
	pool, err := fetch.Authorities(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	return pool, nil
}
