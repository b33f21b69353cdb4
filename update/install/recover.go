package install

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/openpowerquality/box-update-server/update/archive"
)

// Resume finishes an installation that was interrupted: it runs the hooks of PostHooks after one that was cut
// off before its script had ended, begins the check again, or goes back. Where nothing was interrupted it does nothing. The error
// is ErrRolledBack or ErrDamaged where the check failed in the end. The caller then calls Reboot.
func (i *Installer) Resume(ctx context.Context) error {
	err := i.resume(ctx)
	i.startStopped(ctx)
	return err
}

func (i *Installer) resume(ctx context.Context) error {
	if err := i.endInterrupted(); err != nil || i.rec.Attempt == nil {
		return i.asBoxFault(err)
	}
	i.measureRoom()
	i.full = nil // what was interrupted may have filled it
	a := i.rec.Attempt
	i.mustStart = true
	i.c.Logger.Warn("going on with what was interrupted", "update", a.Name, "phase", a.Phase, "tries", a.Tries)
	if err := i.resumePhase(ctx, a.Tries >= i.c.MaxFailures); err != nil {
		return errors.Join(fmt.Errorf("resume %v: %w", a.Name, i.asBoxFault(err)), i.cleanUnlessInterrupted())
	}
	return i.cleanUnlessInterrupted()
}

// resumePhase takes up the phase of the attempt. What was interrupted too often may be what ends this each time.
func (i *Installer) resumePhase(ctx context.Context, tooOften bool) error {
	switch i.rec.Attempt.Phase {
	case PhaseOver:
		if tooOften {
			i.mustStart = false // the hooks have run, and ended this each time
			i.rec.Attempt = nil
			return i.save()
		}
		// Services are started also where a full disk has no place for that.
		if err := errors.Join(i.prepareWork(), i.emptyFolder(), i.countTry()); err != nil {
			i.c.Logger.Error("starting services all the same", "err", err)
		}
		return i.finishFailed(ctx)
	case PhaseCheck:
		if tooOften {
			return i.rollBack(ctx, errInterrupted)
		}
		if err := errors.Join(i.prepareWork(), i.emptyFolder()); err != nil {
			return err
		}
		if err := i.countTry(); err != nil {
			return err
		}
		return i.check(ctx)
	default: // PhaseBack: endInterrupted has ended the others
		if tooOften {
			return i.giveUp(ctx, errInterrupted)
		}
		return i.reinstall(ctx, true)
	}
}

// endInterrupted ends an attempt in a phase that can't be begun again. What was stopped for it is to be started
// by Resume.
func (i *Installer) endInterrupted() error {
	a := i.rec.Attempt
	if a == nil || a.Phase != PhaseBefore && a.Phase != PhaseScript {
		return nil
	}
	if a.Phase == PhaseScript {
		if _, err := os.Lstat(i.path(reserveName)); err == nil {
			i.recordFailure(OutcomeInterrupted, errInterrupted, false)
		} else {
			i.c.Logger.Warn("how the script ended could not be recorded: it counts neither way", "update", a.Name)
		}
	}
	if hooks, err := programsIn(i.c.PostHooks); err == nil && len(hooks) == 0 {
		i.rec.Attempt = nil
		return i.save()
	}
	return i.enter(PhaseOver)
}

// errInterrupted is the reason of a failure that a crash, a kill or a power cut was.
var errInterrupted = errors.New("interrupted")

// countTry counts that the phase is taken up again. That comes right before its programs run, since nothing else of
// it can end this again and again.
func (i *Installer) countTry() error {
	i.rec.Attempt.Tries++
	return i.save()
}

// rollBack goes back to the update before the one whose check failed, which is set aside for that unless the box itself
// was in the way.
func (i *Installer) rollBack(ctx context.Context, cause error) error {
	if boxFault(cause) {
		i.recordBoxFault(cause)
	} else {
		i.countFailure(cause, true)
	}
	if in := i.rec.Installed; in == nil || in.Digest == i.rec.Attempt.Digest {
		return i.giveUp(ctx, errors.New("no other update was installed before"))
	}
	if err := i.enter(PhaseBack); err != nil {
		return err
	}
	return i.reinstall(ctx, false)
}

// reinstall installs again what is installed by the record: its archive was kept. Most of what fails leaves the
// attempt in PhaseBack, so that Resume begins again; what can't get better is given up.
func (i *Installer) reinstall(ctx context.Context, resumed bool) error {
	in, reason := i.rec.Installed, i.rec.Attempt.Reason
	reboots, err := false, i.verifyStaged(ctx, in.Digest, in.Length)
	if err != nil {
		err = fmt.Errorf("the archive that was kept: %w", err)
		// An archive that can't be read is lost in the end: it counts as a try, as running programs does.
		if boxFault(i.asBoxFault(err)) {
			err = errors.Join(err, i.countTry())
		}
	} else {
		reboots, err = i.unpack(ctx, in.Name, in.Digest)
	}
	if err == nil && resumed {
		err = i.countTry()
	}
	// Where the box itself is in the way, Resume begins again as often as it takes, since nothing else can be
	// installed then either.
	if err != nil && boxFault(i.asBoxFault(err)) {
		return fmt.Errorf("%s; going back: %w", reason, err)
	}
	if err == nil {
		err = i.runReinstalled(ctx, reboots)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return err // Resume begins again
	case err != nil:
		return i.giveUp(ctx, err)
	}
	a := *i.rec.Attempt
	i.rec.happened(Event{i.now(), a.Name, a.Digest, OutcomeRolledBack, a.Reason})
	i.rec.Attempt, i.rec.Damaged = nil, ""
	i.recordReboot(a)
	if err := i.save(); err != nil {
		i.rec.Attempt = &a
		return err
	}
	i.c.Logger.Warn("went back", "from", a.Name, "to", in.Name, "reason", a.Reason)
	return fmt.Errorf("%w (%v): %s", ErrRolledBack, in.Name, a.Reason)
}

// runReinstalled takes what was unpacked again through all other phases.
func (i *Installer) runReinstalled(ctx context.Context, reboots bool) error {
	before, err := programsIn(i.c.PreHooks)
	if err != nil {
		return err
	}
	i.mustStart = true
	for _, hook := range before {
		if err := i.run(ctx, hook, i.environment()); err != nil {
			i.c.Logger.Error("going back all the same", "err", err)
		}
	}
	if err := i.run(ctx, i.unpacked(archive.InstallScript), i.environment()); err != nil {
		return err
	}
	unix.Sync()
	if err := i.requestReboot(reboots); err != nil {
		return err
	}
	after, err := programsIn(i.c.PostHooks)
	if err != nil {
		return err
	}
	if err := i.runChecks(ctx, after); err != nil {
		return err
	}
	i.mustStart = false
	return nil
}

// giveUp records that there is no way back, and starts what can be started.
func (i *Installer) giveUp(ctx context.Context, cause error) error {
	a := i.rec.Attempt
	i.rec.Damaged = words(fmt.Errorf("%v: %s; going back: %w", a.Name, a.Reason, cause))
	i.rec.happened(Event{i.now(), a.Name, a.Digest, OutcomeDamaged, i.rec.Damaged})
	i.c.Logger.Error("the box may not work", "reason", i.rec.Damaged)
	return errors.Join(fmt.Errorf("%w: %s", ErrDamaged, i.rec.Damaged), i.finishFailed(ctx))
}
