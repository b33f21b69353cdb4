package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
	"github.com/openpowerquality/box-update-server/update/archive"
	"github.com/openpowerquality/box-update-server/update/install"
)

// wishes are what a person may ask for beyond what a box does by itself.
type wishes struct {
	downgrade bool
	force     bool
	anyTime   bool
	key       string // file
	sig       string // file
}

func (w *wishes) downgradeFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&w.downgrade, "allow-downgrade", false, "install a version lower than what is installed, this time")
}

func (w *wishes) keyFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&w.key, "key", "", "public key `file`, such as release.pub: trust a detached signature by it instead of signed metadata")
}

func (w *wishes) sigFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&w.sig, "sig", "", "signature `file`, with --key (default: FILE.sig)")
}

func (p *program) installCommand() *cobra.Command {
	var w wishes
	cmd := &cobra.Command{
		Use:   "install [NAME|FILE]",
		Short: "Install an update that was fetched, or a file",
		Long: `Installs the update that was fetched for this box, the one of that name, or a file under its signed
name. Nothing is asked of mirrors: what counts is the list that is trusted, as long as it is not expired,
and the file must be the one that the list names, by name and digest.

Who names an update gets it although the rollout has not reached this box; its hardware and its lowest
version count all the same. --force installs what is installed already, what was set aside, and what
waits because it filled the disk.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if w.key != "" {
				return p.plainInstall(cmd.Context(), w, args)
			}
			return p.withInstallingBox(cmd.Context(), func(b *box, i *install.Installer) error { return b.installCommanded(cmd.Context(), i, w, args) })
		},
	}
	w.downgradeFlag(cmd)
	w.keyFlag(cmd)
	w.sigFlag(cmd)
	cmd.Flags().BoolVar(&w.force, "force", false, "also what is installed already, was set aside after failures, or waits because it filled the disk")
	return p.jsonFlag(cmd)
}

func (b *box) installCommanded(ctx context.Context, i *install.Installer, w wishes, args []string) error {
	rel, f, err := b.toInstall(ctx, i.Status(), w, args)
	if err != nil {
		return err
	}
	if f == nil {
		return b.tell(outcome{Status: statusOf(i.Status())})
	}
	defer f.Close() // opened for reading
	result, err := b.install(ctx, i, rel, f, w)
	if err != nil {
		return err
	}
	return b.tell(outcome{Installed: []install.Result{result}, Status: statusOf(i.Status())})
}

// toInstall returns what to install; no file where there is nothing to do.
func (b *box) toInstall(ctx context.Context, s install.Status, w wishes, args []string) (trust.Release, *os.File, error) {
	if len(args) == 0 {
		repo, err := b.trusted()
		if err != nil {
			return trust.Release{}, nil, err
		}
		o := b.offer(repo, s, w.downgrade)
		if o.release.IsZero() {
			return trust.Release{}, nil, nil
		}
		f, err := b.stored(ctx, o.release)
		return o.release, f, err
	}
	rel, err := b.named(filepath.Base(args[0]))
	if err != nil {
		return trust.Release{}, nil, err
	}
	if err := b.mayTake(rel, s); err != nil {
		return trust.Release{}, nil, err
	}
	if !isFile(args[0]) {
		f, err := b.stored(ctx, rel)
		return rel, f, err
	}
	f, err := os.Open(args[0])
	if err != nil {
		return trust.Release{}, nil, err
	}
	if err := compare(ctx, rel, f); err != nil {
		return trust.Release{}, nil, errors.Join(err, f.Close())
	}
	return rel, f, nil
}

// mayTake refuses an update that is for other boxes, or that another one has to be installed before. That
// the rollout has not reached this box, or is paused, it says.
func (b *box) mayTake(rel trust.Release, s install.Status) error {
	repo, err := b.trusted()
	if err != nil {
		return err
	}
	v := rel.Takes(trust.Box{Machine: b.machine, Hardware: b.Hardware, Installed: s.Version}, repo.RolloutTime(b.clock()))
	switch v.Hold {
	case trust.HoldHardware, trust.HoldVersion:
		return refused(fmt.Errorf("%v: %s", rel.Name(), v.Reason))
	case trust.HoldRollout:
		b.warn("%v: %s; it is installed all the same, because it was named", rel.Name(), v.Reason)
	}
	return nil
}

// install installs a trusted update. Its download is removed after that, where it was set aside, and where
// the disk lost something of it, so that it comes again.
func (b *box) install(ctx context.Context, i *install.Installer, rel trust.Release, f *os.File, w wishes) (install.Result, error) {
	paceCollector(percentLong)
	result, err := i.Install(ctx, rel.Verified(), f, install.Options{Unpacked: rel.Unpacked(), AllowDowngrade: w.downgrade, Force: w.force})
	_, aside := i.Status().SetAside(rel.Name(), rel.Digest())
	if err == nil || aside || errors.Is(err, install.ErrMismatch) {
		err = errors.Join(installError(i, err), b.tidy())
		return result, err
	}
	return install.Result{}, installError(i, err)
}

// installError gives the error of an installation its exit code and a hint; nil stays nil.
func installError(i *install.Installer, err error) error {
	log := "what it wrote is in " + i.Status().Log
	const mistake = "it was signed by mistake: a release signer must publish another"
	for _, c := range []struct {
		err  error
		code int
		hint string
	}{
		{install.ErrNoSpace, cli.CodeNoSpace, makeRoom},
		{install.ErrBox, cli.CodeFailed, lookAfterDisk},
		{install.ErrRolledBack, codeRolledBack, log},
		{install.ErrDamaged, codeRolledBack, log + "; look after this box"},
		{install.ErrScript, codeScript, log},
		{install.ErrHook, cli.CodeFailed, log},
		{archive.ErrNoInstallScript, codeImproper, mistake},
		{archive.ErrVersion, codeImproper, mistake},
		{archive.ErrImproper, codeImproper, mistake},
		{install.ErrSetAside, codeHeld, "wait for a newer one, or try it again with boxup install --force NAME"},
		{install.ErrMismatch, cli.CodeRefused, "this is not the file that was signed: get it again"},
		{install.ErrDowngrade, cli.CodeRefused, "--allow-downgrade lets it in, for one run"},
		{install.ErrProduct, cli.CodeRefused, `this box is for another product: see "product" in its configuration`},
	} {
		if errors.Is(err, c.err) {
			return cli.WithHint(cli.WithCode(err, c.code), c.hint)
		}
	}
	return err
}

// withInstaller opens the installer, which finishes what a crash interrupted, and reboots at the end
// where that is due.
func (p *program) withInstaller(ctx context.Context, c config, run func(*install.Installer) error) (err error) {
	i, err := install.Open(install.Config{
		FS: p.fs, Dir: c.State, Product: c.Product, PreHooks: c.PreInstall, PostHooks: c.PostInstall,
		Timeout: c.Timeout, Reboot: install.RebootPolicy(c.Reboot), MaxFailures: c.MaxFailures,
		Now: p.streams.Now, Logger: p.logger(),
	})
	if err != nil {
		return locked(err)
	}
	defer func() { err = errors.Join(err, i.Close()) }()
	if err = i.Resume(ctx); err != nil {
		err = installError(i, fmt.Errorf("what was interrupted: %w", err))
	} else {
		err = run(i)
	}
	if _, rebootErr := i.Reboot(ctx); rebootErr != nil {
		return errors.Join(fmt.Errorf("reboot: %w", rebootErr), err)
	}
	return err
}

// outcome is what install and update say.
type outcome struct {
	Installed []install.Result `json:"installed"` // by this run, in order
	Status    summary          `json:"status"`
	Update    *update.Name     `json:"update,omitempty"` // that waits
	Waits     string           `json:"waits,omitempty"`  // why
	Held      []held           `json:"held,omitempty"`
}

// summary is the short form of what is installed.
type summary struct {
	Installed *update.Name `json:"installed"`
	Reboot    bool         `json:"reboot"` // one was asked for, or is due
}

func statusOf(s install.Status) summary { return summary{installedName(s), s.Reboot != nil} }

// tell writes an outcome.
func (p *program) tell(o outcome) error {
	if p.asJSON {
		return p.streams.JSON(o)
	}
	for _, r := range o.Installed {
		p.facts("installed", r.Installed.Name.String())
	}
	if len(o.Installed) == 0 {
		p.facts("installed", nameOr(o.Status.Installed, "nothing"))
	}
	switch {
	case o.Update != nil:
		p.facts("update", o.Update.String(), "waits", o.Waits)
	case len(o.Installed) == 0:
		p.facts("update", "none: up to date")
	}
	p.factsHeld(o.Held)
	if o.Status.Reboot {
		p.facts("reboot", "was asked for")
	}
	return nil
}

// waiting returns the exit code of an outcome in which an update has to wait, or was set aside.
func (o outcome) waiting() error {
	if o.Update != nil {
		return cli.Exit(codeHeld)
	}
	for _, h := range o.Held {
		if h.Hold == holdFailed && len(o.Installed) == 0 {
			return cli.Exit(codeHeld)
		}
	}
	return nil
}
