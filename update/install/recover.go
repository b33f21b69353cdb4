package install

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/openpowerquality/box-update-server/update/archive"
)

// Resume finishes an installation that was interrupted. If its script had not ended, it runs the hooks of PostHooks;
// otherwise it starts the check again, or goes back. If nothing was interrupted it does nothing. The error is
// ErrRolledBack or ErrDamaged if the check failed in the end. The caller then calls Reboot, also after these errors.
func (i *Installer) Resume(ctx context.Context) error {
	err := i.resume(ctx)
	i.startStoppedServices(ctx)
	return err
}

func (i *Installer) resume(ctx context.Context) error {
	if err := i.endInterrupted(); err != nil || i.rec.Attempt == nil {
		return i.asBoxFault(err)
	}
	i.measureRoom()
	i.full = nil // the interrupted installation may have filled it
	a := i.rec.Attempt
	i.mustStart = true
	i.c.Logger.Warn("continuing the interrupted installation", "update", a.Name, "phase", a.Phase, "tries", a.Tries)
	if err := i.resumePhase(ctx, a.Tries >= i.c.MaxFailures); err != nil {
		return errors.Join(fmt.Errorf("resume %v: %w", a.Name, i.asBoxFault(err)), i.cleanUnlessInterrupted())
	}
	return i.cleanUnlessInterrupted()
}

// resumePhase starts the phase of the attempt again. tooOften says that it was interrupted so often that the phase
// itself may be the cause; then the phase is ended instead.
func (i *Installer) resumePhase(ctx context.Context, tooOften bool) error {
	switch i.rec.Attempt.Phase {
	case PhaseOver:
		if tooOften {
			i.mustStart = false // the hooks have run, and caused the interruption each time
			i.rec.Attempt = nil
			return i.save()
		}
		// Services are started even if a full disk has no space for these steps.
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

// endInterrupted ends an attempt in a phase that can't be started again. Resume then starts the services that were
// stopped for it.
func (i *Installer) endInterrupted() error {
	a := i.rec.Attempt
	if a == nil || a.Phase != PhaseBefore && a.Phase != PhaseScript {
		return nil
	}
	if a.Phase == PhaseScript {
		if _, err := os.Lstat(i.path(reserveName)); err == nil {
			i.recordFailure(OutcomeInterrupted, errInterrupted, false)
		} else {
			i.c.Logger.Warn("the result of the script could not be recorded; it counts neither as a success nor as a failure", "update", a.Name)
		}
	}
	if hooks, err := listHooks(i.c.PostHooks); err == nil && len(hooks) == 0 {
		i.rec.Attempt = nil
		return i.save()
	}
	return i.enter(PhaseOver)
}

// errInterrupted is the reason of a failure by a crash, a kill or a power cut.
var errInterrupted = errors.New("interrupted")

// countTry records that the phase is started again. It is called right before the programs of the phase run, since
// nothing else in it can interrupt it again and again.
func (i *Installer) countTry() error {
	i.rec.Attempt.Tries++
	return i.save()
}

// rollBack goes back to the update before the one whose check failed. The failed one is set aside, unless the box
// itself was to blame.
func (i *Installer) rollBack(ctx context.Context, cause error) error {
	if isBoxFault(cause) {
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

// reinstall installs the update that the record names as installed from the archive that was kept. After most errors
// the attempt stays in PhaseBack, so that Resume starts it again; if nothing can get better, it gives up.
func (i *Installer) reinstall(ctx context.Context, resumed bool) error {
	in, reason := i.rec.Installed, i.rec.Attempt.Reason
	reboots, err := false, i.verifyStaged(ctx, in.Digest, in.Length)
	if err != nil {
		err = fmt.Errorf("the archive of the update before: %w", err)
		// A box fault that never ends must not be tried for ever if the archive can't be read: it counts as a try.
		if isBoxFault(i.asBoxFault(err)) {
			err = errors.Join(err, i.countTry())
		}
	} else {
		reboots, err = i.unpack(ctx, in.Name, in.Digest)
	}
	if err == nil && resumed {
		err = i.countTry()
	}
	// If the box itself is to blame, Resume starts again as often as necessary: no other update could be installed
	// either.
	if err != nil && isBoxFault(i.asBoxFault(err)) {
		return fmt.Errorf("%s; can't go back now: %w", reason, err)
	}
	if err == nil {
		err = i.runReinstalled(ctx, reboots)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return err // Resume starts it again
	case err != nil:
		return i.giveUp(ctx, err)
	}
	a := *i.rec.Attempt
	i.recordEvent(OutcomeRolledBack, a.Reason)
	i.rec.Attempt, i.rec.Damaged = nil, ""
	i.recordReboot(a)
	if err := i.save(); err != nil {
		i.rec.Attempt = &a
		return err
	}
	i.c.Logger.Warn("went back", "from", a.Name, "to", in.Name, "reason", a.Reason)
	return fmt.Errorf("%w (%v): %s", ErrRolledBack, in.Name, a.Reason)
}

// runReinstalled runs what is left after unpacking: hooks, script and checks. A hook of PreHooks that fails does not stop it.
func (i *Installer) runReinstalled(ctx context.Context, reboots bool) error {
	before, err := listHooks(i.c.PreHooks)
	if err != nil {
		return err
	}
	i.mustStart = true
	for _, hook := range before {
		if err := i.run(ctx, hook, i.environment()); err != nil {
			i.c.Logger.Error("a hook failed; going back all the same", "err", err)
		}
	}
	if err := i.run(ctx, i.unpacked(archive.InstallScript), i.environment()); err != nil {
		return err
	}
	unix.Sync()
	if err := i.requestReboot(reboots); err != nil {
		return err
	}
	after, err := listHooks(i.c.PostHooks)
	if err != nil {
		return err
	}
	if err := i.runChecks(ctx, after); err != nil {
		return err
	}
	i.mustStart = false
	return nil
}

// giveUp records that there is no way back, and starts the services.
func (i *Installer) giveUp(ctx context.Context, cause error) error {
	a := i.rec.Attempt
	i.rec.Damaged = reasonOf(fmt.Errorf("%v: %s; can't go back: %w", a.Name, a.Reason, cause))
	i.recordEvent(OutcomeDamaged, i.rec.Damaged)
	i.c.Logger.Error("the box may not work", "reason", i.rec.Damaged)
	return errors.Join(fmt.Errorf("%w: %s", ErrDamaged, i.rec.Damaged), i.finishFailed(ctx))
}
