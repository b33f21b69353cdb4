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

// Result is how an installation went that succeeded.
type Result struct {
	Installed Installed      `json:"installed"`
	Previous  update.Version `json:"previous"` // zero where nothing was installed
	Resumed   bool           `json:"resumed"`  // its script had ended well before a crash and did not run again
	Reboot    bool           `json:"reboot"`   // a reboot is due
}

// Install installs the verified update that lies in src, a regular file, from its beginning; src stays
// open. It first does what Resume does. On success the result is recorded durably; the caller then calls
// Reboot. Status tells how an error left the box, and after an error too Reboot may have to be called.
func (i *Installer) Install(ctx context.Context, v signing.Verified, src *os.File, o Options) (Result, error) {
	if v.IsZero() {
		return Result{}, errors.New("install: nothing is verified")
	}
	r, err := i.install(ctx, v, src, o)
	i.leave(ctx)
	if err != nil {
		return Result{}, fmt.Errorf("install %v: %w", v.Name(), i.own(err))
	}
	return r, nil
}

func (i *Installer) install(ctx context.Context, v signing.Verified, src *os.File, o Options) (Result, error) {
	resumed := i.rec.Attempt
	if err := i.Resume(ctx); err != nil {
		if !errors.Is(err, ErrRolledBack) && !errors.Is(err, ErrDamaged) {
			return Result{}, err
		}
		i.c.Logger.Error("what was interrupted ended badly", "err", err)
	}
	if in := i.rec.Installed; resumed != nil && in != nil && resumed.Digest == in.Digest && in.Digest == v.Digest() {
		return i.result(true), nil
	}
	if err := i.admit(v, o); err != nil {
		return Result{}, err
	}
	if i.begin(); !o.Force {
		if err := i.fits(v.Digest()); err != nil {
			return Result{}, err
		}
	}
	length, err := i.hold(ctx, v, src, o.Unpacked)
	if err == nil {
		err = i.try(ctx, v, length)
	}
	if err := errors.Join(err, i.settle()); err != nil {
		return Result{}, err
	}
	return i.result(false), nil
}

func (i *Installer) result(resumed bool) Result {
	r := Result{Installed: *i.rec.Installed, Resumed: resumed, Reboot: i.due()}
	if p := i.rec.Previous; p != nil {
		r.Previous = p.Name.Version()
	}
	return r
}

// settle cleans up where nothing is left to be done.
func (i *Installer) settle() error {
	if i.rec.Attempt != nil {
		return nil // Resume needs it
	}
	return i.clean()
}

// admit refuses an update that this box must not or need not install.
func (i *Installer) admit(v signing.Verified, o Options) error {
	name := v.Name()
	if name.Product() != i.c.Product {
		return fmt.Errorf("%w: %s, expected %s", ErrProduct, name.Product(), i.c.Product)
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

// try takes an archive that is held through all phases.
func (i *Installer) try(ctx context.Context, v signing.Verified, length int64) error {
	a := &Attempt{ID: newID(), Name: v.Name(), Digest: v.Digest(), Length: length, Started: i.now()}
	if err := i.keepReserve(); err != nil { // before what is unpacked takes the place
		return err
	}
	reboots, err := i.unpack(ctx, a.Name, a.Digest)
	if err != nil {
		return i.improper(ctx, a, err)
	}
	i.rec.Attempt = a
	if err := i.before(ctx); err != nil {
		return err
	}
	if err := i.script(ctx); err != nil {
		return err
	}
	if err := i.wish(reboots); err != nil {
		return errors.Join(err, i.over(ctx))
	}
	return i.check(ctx)
}

// improper sets an update aside whose archive can't be installed whatever is tried. One that is not what it
// was when it was verified a moment ago is the disk's fault.
func (i *Installer) improper(ctx context.Context, a *Attempt, err error) error {
	if !errors.Is(err, archive.ErrImproper) {
		return err
	}
	if lost := i.held(ctx, a.Digest, a.Length); lost != nil {
		return fmt.Errorf("the disk lost something of the archive while it was unpacked: %w", lost)
	}
	i.rec.Attempt = a
	i.fail(OutcomeRefused, err, true)
	i.rec.Attempt = nil
	return errors.Join(err, i.save())
}

// before runs the hooks of PreHooks.
func (i *Installer) before(ctx context.Context) error {
	all, err := hooks(i.c.PreHooks)
	if err == nil && len(all) > 0 {
		err = i.phase(PhaseBefore)
	}
	if err != nil {
		i.rec.Attempt = nil // nothing has happened
		return err
	}
	i.mustStart = true
	for _, hook := range all {
		if err := i.run(ctx, hook, i.surroundings()); err != nil {
			i.stopped(err)
			return errors.Join(fmt.Errorf("%w: %w", ErrHook, err), i.over(ctx))
		}
	}
	return nil
}

// stopped takes in that the attempt ended because of the box, and not of the update.
func (i *Installer) stopped(cause error) {
	if ownFault(cause) {
		i.endOwnFault(cause)
	}
	a := i.rec.Attempt
	i.rec.happened(Event{i.now(), a.Name, a.Digest, OutcomeStopped, words(cause)})
}

// script runs the install script. When it has ended well, all that it wrote is on the disk.
func (i *Installer) script(ctx context.Context) error {
	i.mustStart = true
	if err := errors.Join(i.phase(PhaseScript), i.keepReserve()); err != nil {
		return errors.Join(err, i.over(ctx))
	}
	if err := i.run(ctx, i.top(archive.InstallScript), i.surroundings()); err != nil {
		if ownFault(err) {
			i.stopped(err)
			return errors.Join(err, i.over(ctx))
		}
		outcome := OutcomeFailed
		if ctx.Err() != nil {
			outcome, err = OutcomeInterrupted, fmt.Errorf("%w: %w", errInterrupted, err)
		}
		i.fail(outcome, err, false)
		return errors.Join(fmt.Errorf("%w: %w", ErrScript, err), i.over(ctx))
	}
	unix.Sync()
	return nil
}

// over ends an attempt that failed: what the hooks of PreHooks stopped is started again.
func (i *Installer) over(ctx context.Context) error {
	all, err := hooks(i.c.PostHooks)
	if err != nil {
		return errors.Join(err, i.phase(PhaseOver)) // Resume tries again
	}
	if len(all) > 0 {
		err = i.phase(PhaseOver)
	}
	i.start(ctx)
	i.rec.Attempt = nil
	return errors.Join(err, i.save())
}

// start runs the hooks of PostHooks after something failed.
func (i *Installer) start(ctx context.Context) {
	i.mustStart = false
	all, err := hooks(i.c.PostHooks)
	if err != nil {
		i.c.Logger.Error("the hooks after an update that failed", "err", err)
	}
	for _, hook := range all {
		// They are needed most where somebody has interrupted this.
		env := i.surroundings("BOXUP_RESULT=failed", "BOXUP_REBOOT=no")
		if err := i.run(context.WithoutCancel(ctx), hook, env); err != nil {
			i.c.Logger.Error("a hook failed after an update that failed", "err", err)
		}
	}
}

// leave has the hooks of PostHooks run on every way out that has not run them yet: an attempt that is to be
// gone on with later must not leave stopped what was stopped for it.
func (i *Installer) leave(ctx context.Context) {
	if i.mustStart {
		i.start(ctx)
	}
}

// check runs the hooks of PostHooks, and records the success or goes back.
func (i *Installer) check(ctx context.Context) error {
	all, err := hooks(i.c.PostHooks)
	if err == nil && len(all) == 0 {
		i.mustStart = false
		return i.done()
	}
	if err != nil {
		return errors.Join(err, i.over(ctx))
	}
	if err := i.phase(PhaseCheck); err != nil {
		return err
	}
	if err := i.healthy(ctx, all); err != nil {
		if ctx.Err() != nil {
			return err // Resume begins the check again
		}
		return i.back(ctx, err)
	}
	return i.done()
}

// healthy runs the hooks of PostHooks after a script that ended well.
func (i *Installer) healthy(ctx context.Context, all []string) error {
	reboot := "BOXUP_REBOOT=no"
	if i.rec.Attempt.Reboot {
		reboot = "BOXUP_REBOOT=yes"
	}
	for _, hook := range all {
		if err := i.run(ctx, hook, i.surroundings("BOXUP_RESULT=installed", reboot)); err != nil {
			return err
		}
	}
	i.mustStart = false
	return nil
}

// done records that the update is installed. After an error nothing of that counts.
func (i *Installer) done() error {
	old := i.rec
	old.Failures = slices.Clone(old.Failures)
	a := *i.rec.Attempt
	i.rec.installed(Installed{Name: a.Name, Digest: a.Digest, Length: a.Length, Time: i.now()})
	i.wishFor(a)
	if err := i.save(); err != nil {
		i.rec = old
		return err
	}
	i.c.Logger.Info("installed", "update", a.Name)
	return nil
}
