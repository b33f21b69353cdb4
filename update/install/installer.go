package install

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/update"
)

const (
	subDir      = "install" // below the state directory
	lockName    = "lock"
	archivesDir = "archives"
	workDir     = "work"
)

// Installer installs updates on a box. It must be used by one goroutine at a time.
type Installer struct {
	c    Config
	dir  string
	lock *disk.Lock
	rec  record
	work string // the name of the directory to work in; "" for workDir
	runs int    // counts for BOXUP_RUN

	// mustStart says that a hook of PreHooks or a script has begun and the hooks of PostHooks have not run to their
	// end since, so that services may be stopped.
	mustStart bool

	free int64    // bytes that were free when the installation began
	full []string // which disks were full then
}

// Open returns the installer of a box. The error is ErrLocked if another process has it. Open cleans up after a crash
// and records a script that was interrupted as a failure; Resume does the rest. The caller closes the installer.
func Open(c Config) (*Installer, error) {
	i, err := open(c)
	if err != nil {
		return nil, fmt.Errorf("installer: %w", err)
	}
	return i, nil
}

func open(c Config) (*Installer, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	i := &Installer{c: c, dir: filepath.Join(c.Dir, subDir)}
	if err := i.makeDirs(); err != nil {
		return nil, err
	}
	if i.lock, err = disk.TryLock(i.path(lockName)); err != nil {
		return nil, err
	}
	err = i.load()
	if err == nil {
		err = i.cleanUp()
	}
	if err != nil {
		return nil, errors.Join(err, i.lock.Unlock())
	}
	return i, nil
}

// Close releases the lock.
func (i *Installer) Close() error { return i.lock.Unlock() }

func (i *Installer) path(names ...string) string {
	return filepath.Join(append([]string{i.dir}, names...)...)
}

func (i *Installer) workPath(names ...string) string {
	return i.path(append([]string{cmp.Or(i.work, workDir)}, names...)...)
}

func (i *Installer) archivePath(d update.Digest) string { return i.path(archivesDir, d.String()) }

func (i *Installer) makeDirs() error {
	for _, dir := range []string{i.dir, i.path(archivesDir), i.path(logDir)} {
		if err := i.c.FS.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	return nil
}

// load reads the record. A damaged record is written again from its copy; one that can't be used is moved to
// record.json.bad.
func (i *Installer) load() error {
	var damage, err error
	i.rec, damage, err = readRecord(i.dir)
	if damage != nil {
		i.c.Logger.Warn("the disk damaged a file; writing it again", "err", damage)
		if err := i.save(); !disk.Fault(err) {
			return err
		}
		return nil // the next save reports the error
	}
	if !errors.Is(err, errRecord) {
		return err
	}
	i.c.Logger.Error("the record of installations is damaged; boxup moves it to "+recordName+".bad and no longer knows what is installed", "err", err)
	i.rec = record{Format: recordFormat, Damaged: reasonOf(err)}
	return i.c.FS.Rename(i.path(recordName), i.path(recordName+".bad"))
}

// cleanUp does what has to be done after a crash without running programs.
func (i *Installer) cleanUp() error {
	err := errors.Join(i.c.FS.RemoveTemps(i.dir), i.c.FS.RemoveTemps(i.path(archivesDir)))
	if err != nil && !disk.Fault(err) {
		return err
	}
	if a := i.rec.Attempt; a != nil {
		killRun(a.run())
		i.c.Logger.Warn("an installation was interrupted", "update", a.Name, "phase", a.Phase)
	}
	err = errors.Join(err, i.endInterrupted(), i.removeUnneeded())
	if disk.Fault(err) && i.rec.Attempt != nil {
		i.c.Logger.Error("the disk fails; starting services all the same", "err", err)
		return nil // later steps report the error if they need the disk
	}
	return i.asBoxFault(err)
}

// cleanUnlessInterrupted removes what no step needs any more, unless Resume still has something to do.
func (i *Installer) cleanUnlessInterrupted() error {
	if i.rec.Attempt != nil {
		return nil
	}
	return i.removeUnneeded()
}

// removeUnneeded removes what no step needs any more.
func (i *Installer) removeUnneeded() error {
	if err := i.c.FS.Remove(i.path(reserveName)); err != nil {
		return err
	}
	if err := i.removeWork(); err != nil {
		return err
	}
	keep := map[string]bool{}
	if in := i.rec.Installed; in != nil {
		keep[in.Digest.String()] = true
	}
	if a := i.rec.Attempt; a != nil && a.Phase == PhaseCheck {
		keep[a.Digest.String()] = true
	}
	entries, err := os.ReadDir(i.path(archivesDir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !keep[e.Name()] {
			if err := i.c.FS.Remove(i.path(archivesDir, e.Name())); errors.Is(err, fs.ErrPermission) {
				i.warnNotRemoved(i.path(archivesDir, e.Name()), err)
			} else if err != nil {
				return err
			}
		}
	}
	return nil
}

// removeTree removes a directory and its content, including directories without write permission. File systems that
// are mounted in it are detached and keep their content.
func removeTree(dir string) error {
	if err := unmount(dir); err != nil {
		return err
	}
	err := os.RemoveAll(dir)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	// An error here also makes the removal fail, which reports it.
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return os.Chmod(path, 0o700)
	})
	return os.RemoveAll(dir)
}

// enter records that the attempt enters a phase.
func (i *Installer) enter(p Phase) error {
	a := i.rec.Attempt
	if a.Phase == p {
		return nil // Resume has started this phase again
	}
	a.Phase, a.Tries = p, 0
	i.c.Logger.Info("phase", "update", a.Name, "phase", p)
	return i.save()
}

// recordFailure adds the failure of the attempt to the record, in memory.
func (i *Installer) recordFailure(outcome Outcome, cause error, setAside bool) {
	i.countFailure(cause, setAside)
	i.recordEvent(outcome, i.rec.Attempt.Reason)
}

// countFailure counts a failure of the update.
func (i *Installer) countFailure(cause error, setAside bool) {
	a := i.rec.Attempt
	a.Reason = reasonOf(cause)
	f := i.rec.addFailure(Failure{Name: a.Name, Digest: a.Digest, Last: i.now(), Reason: a.Reason, SetAside: setAside}, i.c.MaxFailures)
	i.c.Logger.Error("the update failed", "update", a.Name, "reason", a.Reason, "failures", f.Count, "set aside", f.SetAside)
}

// recordStopped notes in the record, in memory, that a hook of PreHooks or a fault of the box ended the attempt.
func (i *Installer) recordStopped(cause error) {
	if isBoxFault(cause) {
		i.recordBoxFault(cause)
	}
	i.recordEvent(OutcomeStopped, reasonOf(cause))
}

// recordEvent notes in the record, in memory, how the attempt ended.
func (i *Installer) recordEvent(outcome Outcome, reason string) {
	a := i.rec.Attempt
	i.rec.addEvent(Event{i.now(), a.Name, a.Digest, outcome, reason})
}

func (i *Installer) now() time.Time { return i.c.Now().UTC().Truncate(time.Second) }

func newID() string {
	var id [16]byte
	rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}
