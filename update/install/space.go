package install

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

const (
	margin      = 4 << 20 // bytes that stay free beside an update
	marginFiles = 32      // inodes that stay free

	// A disk with less is full. This includes the reserve, which is removed before a disk counts as full.
	fullBytes = 1 << 20
	fullFiles = 8

	reserveName = "reserve"
	reserveSize = 2 * maxRecord

	// filledDiskFor is how long an update that filled the disk waits for more free space than it had.
	filledDiskFor = 24 * time.Hour
)

// FilledDisk is an update whose installation ended because the disk was full.
type FilledDisk struct {
	Digest update.Digest `json:"digest"`
	Free   int64         `json:"free"` // bytes that were free when it began
	Time   time.Time     `json:"time"`
}

// isBoxFault reports whether an error is a fault of the box itself, which counts against no update.
func isBoxFault(err error) bool { return status.NoSpace.In(err) || errors.Is(err, ErrBox) }

// fullDisk is a disk.ErrNoSpace whose message says what is left.
type fullDisk struct {
	left string
	err  error // what failed for it; nil if nothing was tried
}

func (e *fullDisk) Error() string {
	if e.err == nil {
		return fmt.Sprintf("%v: %s", disk.ErrNoSpace, e.left)
	}
	return fmt.Sprintf("%v (%s): %v", disk.ErrNoSpace, e.left, e.err)
}

func (e *fullDisk) Unwrap() []error {
	if e.err == nil {
		return []error{disk.ErrNoSpace}
	}
	return []error{disk.ErrNoSpace, e.err}
}

// asBoxFault adds to the error of a full disk what is left of it, and turns other system errors that are the box's
// fault into ErrBox. Other errors stay as they are.
func (i *Installer) asBoxFault(err error) error {
	switch {
	case err == nil || errors.Is(err, ErrBox) || errors.As(err, new(*fullDisk)):
		return err
	case status.NoSpace.In(err):
		return &fullDisk{i.describeSpace(), err}
	case disk.Fault(err), errors.Is(err, unix.ENOMEM), errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		return fmt.Errorf("%w: %w", ErrBox, err)
	}
	return err
}

// describeSpace describes what is left of the disk of the state directory.
func (i *Installer) describeSpace() string {
	bytes, files, err := space(i.dir)
	if err != nil {
		return err.Error()
	}
	if files < marginFiles {
		return fmt.Sprintf("%s has %d inodes free", i.dir, files)
	}
	return fmt.Sprintf("%s has %d bytes free", i.dir, bytes)
}

// space returns how many bytes and inodes are free on the file system of dir. If it does not count inodes, there are
// always enough; if it is read-only, enough of both: a write there can't fail for lack of space.
func space(dir string) (bytes, files int64, err error) {
	s, err := disk.SpaceOf(dir)
	if err != nil {
		return 0, 0, err
	}
	const enough = 1 << 62
	if s.ReadOnly {
		return enough, enough, nil
	}
	if s.Files == 0 {
		s.FreeFiles = enough
	}
	return s.Free, s.FreeFiles, nil
}

// Needs returns how many bytes must be free to install an archive of length bytes that unpacks to unpacked bytes. If
// unpacked is 0, which means not known, length stands for it.
func Needs(length, unpacked int64) int64 {
	if unpacked == 0 {
		unpacked = length
	}
	return unpacked + margin
}

// checkRoom refuses, with disk.ErrNoSpace, to use need bytes if not as many, and the margin, are free.
func (i *Installer) checkRoom(need int64) error {
	bytes, files, err := space(i.dir)
	if err != nil {
		return err
	}
	if need > bytes-margin {
		return &fullDisk{left: fmt.Sprintf("%s: expected %d bytes free, got %d", i.dir, need+margin, bytes)}
	}
	if files < marginFiles {
		return &fullDisk{left: fmt.Sprintf("%s: expected %d inodes free, got %d", i.dir, marginFiles, files)}
	}
	return nil
}

// fullDisks returns which of the state directory and / are on a full disk.
func (i *Installer) fullDisks() (full []string) {
	for _, dir := range []string{i.dir, "/"} {
		if bytes, files, err := space(dir); err == nil && (bytes < fullBytes || files < fullFiles) {
			full = append(full, dir)
		}
	}
	return full
}

// diskFilled reports whether a disk is full that was not full when the installation began.
func (i *Installer) diskFilled() bool {
	return slices.ContainsFunc(i.fullDisks(), func(dir string) bool { return !slices.Contains(i.full, dir) })
}

// measureRoom notes how much space is free before anything is done.
func (i *Installer) measureRoom() {
	i.full = i.fullDisks()
	i.free = 0
	for _, dir := range []string{i.dir, "/"} {
		if bytes, _, err := space(dir); err == nil && (i.free == 0 || bytes < i.free) {
			i.free = bytes
		}
	}
}

// recordBoxFault notes that the attempt ended because of the box itself: it counts against no update. If the disk was
// full, the update waits for more free space than it had, but at most a day. Otherwise services would be stopped
// every hour for an update that does not fit.
func (i *Installer) recordBoxFault(cause error) {
	a := i.rec.Attempt
	a.Reason = reasonOf(cause)
	if _, files, err := space(i.dir); err == nil && files >= marginFiles && status.NoSpace.In(cause) {
		i.rec.FilledDisk = &FilledDisk{a.Digest, i.free, i.now()}
	}
	i.c.Logger.Error("this box could not install the update; this does not count as a failure of the update", "update", a.Name, "reason", a.Reason)
}

// checkFilledDisk refuses, with disk.ErrNoSpace, an update that filled the disk and has no more free space now than then.
func (i *Installer) checkFilledDisk(d update.Digest) error {
	c := i.rec.FilledDisk
	if c == nil || c.Digest != d || i.free >= c.Free+margin {
		return nil
	}
	if now, until := i.now(), c.Time.Add(filledDiskFor); !now.Before(c.Time) && now.Before(until) {
		return &fullDisk{left: fmt.Sprintf("the last installation began with %d bytes free and filled the disk; %d are free now; boxup tries again when %d are free, or after %s",
			c.Free, i.free, c.Free+margin, until.Format(time.RFC3339))}
	}
	return nil
}

// makeReserve makes the file that is removed to make space for the record on a full disk, unless it exists.
//
// It exists when a script begins, and is removed if the record can't be written. So if the record says that a script
// runs and the reserve is missing, the script has ended and only the record of that is missing.
func (i *Installer) makeReserve() error {
	noise := make([]byte, reserveSize) // random, so that no file system compresses it
	rand.Read(noise)                   // never fails
	err := i.c.FS.CreateFile(i.path(reserveName), noise, 0o600)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// save writes the record. On a full disk it removes the reserve and, if the script has ended, the content of the
// unpacked folder. Hooks must not need that content: after a crash it is missing, too.
func (i *Installer) save() error {
	err := i.rec.write(i.c.FS, i.dir)
	if !disk.Fault(err) {
		return err
	}
	i.c.Logger.Warn("can't write the record; freeing the reserve", "err", err)
	if removeErr := i.c.FS.Remove(i.path(reserveName)); removeErr != nil || !status.NoSpace.In(err) {
		return errors.Join(err, removeErr)
	}
	err = i.rec.write(i.c.FS, i.dir)
	if a := i.rec.Attempt; status.NoSpace.In(err) && (a == nil || a.Phase == PhaseCheck || a.Phase == PhaseOver) {
		if err := i.emptyFolder(); err != nil {
			return err
		}
		err = i.rec.write(i.c.FS, i.dir)
	}
	return err
}
