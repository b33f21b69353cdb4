package install

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/openpowerquality/box-update-server/update/archive"
)

// Resume finishes an installation that was interrupted: it runs the hooks of PostHooks after one that was cut
// off before its script had ended, begins the check again, or goes back. Where nothing was interrupted it does nothing. The error
// is ErrRolledBack or ErrDamaged where the check failed in the end. The caller then calls Reboot.
func (i *Installer) Resume(ctx context.Context) error {
	err := i.takeUp(ctx)
	i.leave(ctx)
	return err
}

func (i *Installer) takeUp(ctx context.Context) error {
	if err := i.interrupted(); err != nil || i.rec.Attempt == nil {
		return i.own(err)
	}
	i.begin()
	i.full = nil // what was interrupted may have filled it
	a := i.rec.Attempt
	i.mustStart = true
	i.c.Logger.Warn("going on with what was interrupted", "update", a.Name, "phase", a.Phase, "tries", a.Tries)
	if err := i.resume(ctx, a.Tries >= i.c.MaxFailures); err != nil {
		return errors.Join(fmt.Errorf("resume %v: %w", a.Name, i.own(err)), i.settle())
	}
	return i.settle()
}

func (i *Installer) resume(ctx context.Context, tooOften bool) error {
	switch a := i.rec.Attempt; {
	case a.Phase == PhaseOver && tooOften:
		i.mustStart = false // they have run, and ended this each time
		i.rec.Attempt = nil
		return i.save()
	case a.Phase == PhaseOver:
		// Services are started also where a full disk has no place for that.
		if err := errors.Join(i.prepare(), i.emptyFolder(), i.tried()); err != nil {
			i.c.Logger.Error("starting services all the same", "err", err)
		}
		return i.over(ctx)
	case a.Phase == PhaseCheck && tooOften:
		return i.back(ctx, errInterrupted)
	case a.Phase == PhaseCheck:
		if err := errors.Join(i.prepare(), i.emptyFolder()); err != nil {
			return err
		}
		if err := i.tried(); err != nil {
			return err
		}
		return i.check(ctx)
	case tooOften:
		return i.stuck(ctx, errInterrupted)
	}
	return i.goBack(ctx, true)
}

// tried counts that the phase is taken up again. That comes right before its programs run, since nothing else of
// it can end this again and again.
func (i *Installer) tried() error {
	i.rec.Attempt.Tries++
	return i.save()
}

// back goes back to the update before the one whose check failed, which is set aside for that unless the box itself
// was in the way.
func (i *Installer) back(ctx context.Context, cause error) error {
	if ownFault(cause) {
		i.endOwnFault(cause)
	} else {
		i.count(cause, true)
	}
	if in := i.rec.Installed; in == nil || in.Digest == i.rec.Attempt.Digest {
		return i.stuck(ctx, errors.New("no other update was installed before"))
	}
	if err := i.phase(PhaseBack); err != nil {
		return err
	}
	return i.goBack(ctx, false)
}

// goBack installs again what is installed by the record.
func (i *Installer) goBack(ctx context.Context, resumed bool) error {
	reboots, err := i.restore(ctx)
	if err == nil && resumed {
		err = i.tried()
	}
	if a := i.rec.Attempt; err != nil && ownFault(i.own(err)) {
		return fmt.Errorf("%s; going back: %w", a.Reason, err) // Resume begins again
	}
	if err == nil {
		err = i.reinstall(ctx, reboots)
	}
	if err != nil && ctx.Err() != nil {
		return err // Resume begins again
	}
	if err != nil {
		return i.stuck(ctx, err)
	}
	a := *i.rec.Attempt
	i.rec.happened(Event{i.now(), a.Name, a.Digest, OutcomeRolledBack, a.Reason})
	i.rec.Attempt, i.rec.Damaged = nil, ""
	i.wishFor(a)
	if err := i.save(); err != nil {
		i.rec.Attempt = &a
		return err
	}
	i.c.Logger.Warn("went back", "from", a.Name, "to", i.rec.Installed.Name, "reason", a.Reason)
	return fmt.Errorf("%w (%v): %s", ErrRolledBack, i.rec.Installed.Name, a.Reason)
}

// restore unpacks the archive that was kept. Where the box itself is in the way, Resume begins again as often as it
// takes, since nothing else can be installed then either; but an archive that can't be read is lost in the end.
func (i *Installer) restore(ctx context.Context) (reboots bool, err error) {
	in := i.rec.Installed
	if err := i.held(ctx, in.Digest, in.Length); err != nil {
		err = fmt.Errorf("the archive that was kept: %w", err)
		if ownFault(i.own(err)) {
			err = errors.Join(err, i.tried())
		}
		return false, err
	}
	return i.unpack(ctx, in.Name, in.Digest)
}

// reinstall takes what restore has unpacked through all other phases.
func (i *Installer) reinstall(ctx context.Context, reboots bool) error {
	before, err := hooks(i.c.PreHooks)
	if err != nil {
		return err
	}
	i.mustStart = true
	for _, hook := range before {
		if err := i.run(ctx, hook, i.surroundings()); err != nil {
			i.c.Logger.Error("going back all the same", "err", err)
		}
	}
	if err := i.run(ctx, i.top(archive.InstallScript), i.surroundings()); err != nil {
		return err
	}
	unix.Sync()
	if err := i.wish(reboots); err != nil {
		return err
	}
	after, err := hooks(i.c.PostHooks)
	if err != nil {
		return err
	}
	return i.healthy(ctx, after)
}

// stuck records that there is no way back, and starts what can be started.
func (i *Installer) stuck(ctx context.Context, cause error) error {
	a := i.rec.Attempt
	i.rec.Damaged = words(fmt.Errorf("%v: %s; going back: %w", a.Name, a.Reason, cause))
	i.rec.happened(Event{i.now(), a.Name, a.Digest, OutcomeDamaged, i.rec.Damaged})
	i.c.Logger.Error("the box may not work", "reason", i.rec.Damaged)
	return errors.Join(fmt.Errorf("%w: %s", ErrDamaged, i.rec.Damaged), i.over(ctx))
}
