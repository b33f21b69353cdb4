package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/update"
	"github.com/openpowerquality/box-update-server/update/archive"
)

// Result is the result of an installation that succeeded.
type Result struct {
	Installed Installed      `json:"installed"`
	Previous  update.Version `json:"previous"` // zero if nothing was installed
	Resumed   bool           `json:"resumed"`  // the script had succeeded before a crash and did not run again
	Reboot    bool           `json:"reboot"`   // a reboot is due
}

// Install installs the verified update in src, a regular file, which is read from offset 0 and stays open. It does
// what Resume does first. On success the result is recorded durably, and the caller then calls Reboot. After an
// error, Status tells the state of the box, and a reboot may be due, too.
func (i *Installer) Install(ctx context.Context, v signing.Verified, src *os.File, o Options) (Result, error) {
	if v.IsZero() {
		return Result{}, errors.New("install: nothing is verified")
	}
	r, err := i.install(ctx, v, src, o)
	i.startStoppedServices(ctx)
	if err != nil {
		return Result{}, fmt.Errorf("install %v: %w", v.Name(), i.asBoxFault(err))
	}
	return r, nil
}

func (i *Installer) install(ctx context.Context, v signing.Verified, src *os.File, o Options) (Result, error) {
	resumed := i.rec.Attempt
	if err := i.Resume(ctx); err != nil {
		// The box runs the update before or a damaged one. The update at hand may repair that.
		if !errors.Is(err, ErrRolledBack) && !errors.Is(err, ErrDamaged) {
			return Result{}, err
		}
		i.c.Logger.Error("the interrupted installation failed", "err", err)
	}
	if in := i.rec.Installed; resumed != nil && in != nil && resumed.Digest == in.Digest && in.Digest == v.Digest() {
		return i.result(true), nil
	}
	if err := i.admit(v, o); err != nil {
		return Result{}, err
	}
	if i.measureRoom(); !o.Force {
		if err := i.checkFilledDisk(v.Digest()); err != nil {
			return Result{}, err
		}
	}
	length, err := i.stage(ctx, v, src, o.Unpacked)
	if err == nil {
		err = i.attempt(ctx, v, length)
	}
	if err := errors.Join(err, i.cleanUnlessInterrupted()); err != nil {
		return Result{}, err
	}
	return i.result(false), nil
}

func (i *Installer) result(resumed bool) Result {
	r := Result{Installed: *i.rec.Installed, Resumed: resumed, Reboot: i.rebootDue()}
	if p := i.rec.Previous; p != nil {
		r.Previous = p.Name.Version()
	}
	return r
}

// admit refuses an update that this box must not or need not install. It changes nothing.
func (i *Installer) admit(v signing.Verified, o Options) error {
	name := v.Name()
	if name.Product() != i.c.Product {
		return fmt.Errorf("%w: expected %s, got %s", ErrProduct, i.c.Product, name.Product())
	}
	if reason, ok := i.Status().SetAside(name, v.Digest()); ok && !o.Force {
		return fmt.Errorf("%w: %s", ErrSetAside, reason)
	}
	if i.rec.Installed == nil {
		return nil
	}
	installed := i.rec.Installed.Name
	order := name.Version().Compare(installed.Version())
	if order < 0 && !i.c.AllowDowngrade && !o.AllowDowngrade {
		return fmt.Errorf("%w: %v is installed", ErrDowngrade, installed)
	}
	if order == 0 && !o.Force && i.rec.Damaged == "" {
		return fmt.Errorf("%w: %v", ErrInstalled, installed)
	}
	return nil
}

// attempt unpacks a staged archive and goes through all phases.
func (i *Installer) attempt(ctx context.Context, v signing.Verified, length int64) error {
	a := &Attempt{ID: newID(), Name: v.Name(), Digest: v.Digest(), Length: length, Started: i.now()}
	// Unpacking may fill the disk, so the space for the record is reserved first.
	if err := i.makeReserve(); err != nil {
		return err
	}
	reboots, err := i.unpack(ctx, a.Name, a.Digest)
	if errors.Is(err, archive.ErrImproper) {
		return i.refuse(ctx, a, err)
	}
	if err != nil {
		return err
	}
	hooks, err := listHooks(i.c.PreHooks)
	if err != nil {
		return err
	}
	i.rec.Attempt = a
	if len(hooks) > 0 {
		if err := i.enter(PhaseBefore); err != nil {
			i.rec.Attempt = nil // nothing has run yet
			return err
		}
	}

	// From here on services may be stopped, so each way out starts them again.
	i.mustStart = true
	err = i.runScript(ctx, hooks)
	if err == nil {
		// The script may have written anywhere. All of it must be on the disk before the record says that the script
		// succeeded.
		unix.Sync()
		err = i.requestReboot(reboots)
	}
	if err != nil {
		return errors.Join(err, i.finishFailed(ctx))
	}
	return i.check(ctx)
}

// runScript runs the hooks of PreHooks and the install script. If one fails, it notes that in the record, in memory.
func (i *Installer) runScript(ctx context.Context, hooks []string) error {
	for _, hook := range hooks {
		if err := i.run(ctx, hook, i.environment()); err != nil {
			i.recordStopped(err)
			return fmt.Errorf("%w: %w", ErrHook, err)
		}
	}
	// The reserve was given up if the record did not fit without it. It must exist while the script runs: if it is
	// missing after a crash, the script had ended and only the record of that is missing.
	if err := errors.Join(i.enter(PhaseScript), i.makeReserve()); err != nil {
		return err
	}
	err := i.run(ctx, i.unpacked(archive.InstallScript), i.environment())
	switch {
	case err == nil:
		return nil
	case isBoxFault(err):
		i.recordStopped(err)
		return err
	case ctx.Err() != nil:
		err = fmt.Errorf("%w: %w", errInterrupted, err)
		i.recordFailure(OutcomeInterrupted, err, false)
	default:
		i.recordFailure(OutcomeFailed, err, false)
	}
	return fmt.Errorf("%w: %w", ErrScript, err)
}

// refuse sets an update aside if its archive can never be installed. If the archive no longer has the digest that was
// verified a moment ago, the disk is to blame, and nothing is set aside.
func (i *Installer) refuse(ctx context.Context, a *Attempt, err error) error {
	if damage := i.verifyStaged(ctx, a.Digest, a.Length); damage != nil {
		return fmt.Errorf("the disk damaged the archive while it was unpacked: %w", damage)
	}
	i.rec.Attempt = a
	i.recordFailure(OutcomeRefused, err, true)
	i.rec.Attempt = nil
	return errors.Join(err, i.save())
}

// check runs the hooks of PostHooks after a script that succeeded, and records the success or goes back.
func (i *Installer) check(ctx context.Context) error {
	hooks, err := listHooks(i.c.PostHooks)
	if err != nil {
		return errors.Join(err, i.finishFailed(ctx))
	}
	if len(hooks) > 0 {
		if err := i.enter(PhaseCheck); err != nil {
			return err
		}
		if err := i.runChecks(ctx, hooks); err != nil {
			if ctx.Err() != nil {
				return err // Resume starts the check again
			}
			return i.rollBack(ctx, err)
		}
	}
	i.mustStart = false

	// If the record can't be saved, none of this counts: the disk still has the older record.
	old := i.rec
	old.Failures = slices.Clone(old.Failures)
	a := *i.rec.Attempt
	i.rec.setInstalled(Installed{Name: a.Name, Digest: a.Digest, Length: a.Length, Time: i.now()})
	i.recordReboot(a)
	if err := i.save(); err != nil {
		i.rec = old
		return err
	}
	i.c.Logger.Info("installed", "update", a.Name)
	return nil
}

// runChecks runs the hooks of PostHooks after a script that succeeded, until the first error.
func (i *Installer) runChecks(ctx context.Context, hooks []string) error {
	reboot := "BOXUP_REBOOT=no"
	if i.rec.Attempt.Reboot {
		reboot = "BOXUP_REBOOT=yes"
	}
	for _, hook := range hooks {
		if err := i.run(ctx, hook, i.environment("BOXUP_RESULT=installed", reboot)); err != nil {
			return err
		}
	}
	return nil
}

// finishFailed ends an attempt that failed. The hooks of PostHooks start again what the hooks of PreHooks stopped.
func (i *Installer) finishFailed(ctx context.Context) error {
	hooks, err := listHooks(i.c.PostHooks)
	if err != nil {
		return errors.Join(err, i.enter(PhaseOver)) // Resume tries again
	}
	if len(hooks) > 0 {
		err = i.enter(PhaseOver)
	}
	i.startServices(ctx)
	i.rec.Attempt = nil
	return errors.Join(err, i.save())
}

// startServices runs the hooks of PostHooks after something failed.
func (i *Installer) startServices(ctx context.Context) {
	i.mustStart = false
	hooks, err := listHooks(i.c.PostHooks)
	if err != nil {
		i.c.Logger.Error("can't list the hooks that run after a failed update", "err", err)
	}
	for _, hook := range hooks {
		// They run even if ctx has ended: services must not stay stopped.
		env := i.environment("BOXUP_RESULT=failed", "BOXUP_REBOOT=no")
		if err := i.run(context.WithoutCancel(ctx), hook, env); err != nil {
			i.c.Logger.Error("a hook failed after a failed update", "err", err)
		}
	}
}

// startStoppedServices runs the hooks of PostHooks if they have not run yet: even if the attempt is continued later, services
// must not stay stopped until then.
func (i *Installer) startStoppedServices(ctx context.Context) {
	if i.mustStart {
		i.startServices(ctx)
	}
}
