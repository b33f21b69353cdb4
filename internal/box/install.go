package box

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
	"github.com/openpowerquality/box-update-server/update/install"
)

// Options are what a person may ask for beyond what a box does by default.
type Options struct {
	AllowDowngrade bool // install a version lower than the installed one
	Force          bool // install an update that is installed already, was set aside, or waits because it filled the disk
	AnyTime        bool // install outside of the maintenance window too

	// Key, if not "", is the file of a public key and selects the plain mode: an update is trusted by a detached
	// signature of that key rather than by signed metadata. Sig is the file of the signature, "" for the one beside
	// the archive; Update asks the server for the signature instead.
	Key, Sig string

	// Report is called with the outcome, before the box reboots. Its error is returned.
	Report func(Outcome) error
}

// Install installs what: a file, or the name of an update that was fetched. If what is "", it installs the update that
// was fetched for this box. It asks no mirror.
func (b *Box) Install(ctx context.Context, what string, opts Options) error {
	if opts.Key != "" {
		return b.plainInstall(ctx, what, opts)
	}
	return b.changeInstalled(ctx, func(s *session, i *install.Installer) error { return s.installNamed(ctx, i, opts, what) })
}

func (s *session) installNamed(ctx context.Context, i *install.Installer, opts Options, what string) error {
	rel, f, err := s.toInstall(ctx, i.Status(), opts, what)
	if err != nil {
		return err
	}
	if f == nil {
		return opts.Report(Outcome{Status: statusOf(i.Status())})
	}
	defer f.Close() // opened for reading
	result, err := s.install(ctx, i, rel, f, opts)
	if err != nil {
		return err
	}
	return opts.Report(Outcome{Installed: []install.Result{result}, Status: statusOf(i.Status())})
}

// toInstall returns the update to install and its archive, which the caller closes. The file is nil if there is nothing
// to install.
func (s *session) toInstall(ctx context.Context, installed install.Status, opts Options, what string) (trust.Release, *os.File, error) {
	if what == "" {
		repo, err := s.trusted()
		if err != nil {
			return trust.Release{}, nil, err
		}
		o := s.offer(repo, installed, opts.AllowDowngrade)
		if o.release.IsZero() {
			return trust.Release{}, nil, nil
		}
		f, err := s.openFetched(ctx, o.release)
		return o.release, f, err
	}
	rel, err := s.releaseNamed(filepath.Base(what))
	if err != nil {
		return trust.Release{}, nil, err
	}
	if err := s.checkFits(rel, installed); err != nil {
		return trust.Release{}, nil, err
	}
	if !isFile(what) {
		f, err := s.openFetched(ctx, rel)
		return rel, f, err
	}
	f, err := os.Open(what)
	if err != nil {
		return trust.Release{}, nil, err
	}
	if err := verifyArchive(ctx, rel, f); err != nil {
		return trust.Release{}, nil, errors.Join(err, f.Close())
	}
	return rel, f, nil
}

// checkFits refuses an update whose conditions this box does not meet. If only the rollout has not reached the box, or
// is paused, it warns, because a person named the update.
func (s *session) checkFits(rel trust.Release, installed install.Status) error {
	repo, err := s.trusted()
	if err != nil {
		return err
	}
	v := rel.Evaluate(s.facts(installed), repo.RolloutTime(s.clock()))
	switch v.Hold {
	case trust.HoldNone:
		return nil
	case trust.HoldRollout:
		s.warn("%v: %s; installing it anyway, because you named it", rel.Name(), v.Reason)
		return nil
	}
	return refused(fmt.Errorf("%v: %s", rel.Name(), v.Reason))
}

// install installs a trusted update. It then removes the download if the update is installed or was set aside, or if
// the archive on the disk is damaged, so that it is downloaded again.
func (s *session) install(ctx context.Context, i *install.Installer, rel trust.Release, f *os.File, opts Options) (install.Result, error) {
	result, done, err := installVerified(ctx, i, rel.Verified(), f, rel.Unpacked(), opts)
	if done || errors.Is(err, install.ErrMismatch) {
		err = errors.Join(err, s.removeOthers())
	}
	return result, err
}

// installVerified installs a verified archive that unpacks to that many bytes, 0 if that is not known. done reports whether
// the update is installed or set aside, so that a download of it is not needed any more.
func installVerified(ctx context.Context, i *install.Installer, v signing.Verified, f *os.File, unpacked int64, opts Options) (result install.Result, done bool, err error) {
	result, err = i.Install(ctx, v, f, install.Options{Unpacked: unpacked, AllowDowngrade: opts.AllowDowngrade, Force: opts.Force})
	_, aside := i.Status().SetAside(v.Name(), v.Digest())
	return result, err == nil || aside, installError(i, err)
}

// waits returns why an update that is downloaded has to wait, "" if it may be installed now.
func (s *session) waits(opts Options) string {
	if opts.AnyTime || s.Window.Open(s.Now()) {
		return ""
	}
	return "it is downloaded, and will be installed between " + s.Window.String()
}

// installError gives the error of an installation its exit code and a hint; nil stays nil.
func installError(i *install.Installer, err error) error {
	if hint := status.BoxHint(err, i.Status().Log); hint != "" {
		return status.WithHint(status.Coded(err), hint)
	}
	return err
}

// withInstaller opens the installer, finishes an installation that a crash interrupted, calls run, and reboots if that
// is due.
func (b *Box) withInstaller(ctx context.Context, c config, run func(*install.Installer) error) (err error) {
	i, err := install.Open(install.Config{
		FS: b.FS, Dir: c.State, Product: c.Product, PreHooks: c.PreInstall, PostHooks: c.PostInstall,
		Timeout: c.Timeout, Reboot: install.RebootPolicy(c.Reboot), MaxFailures: c.MaxFailures,
		Now: b.Now, Logger: b.Logger,
	})
	if err != nil {
		return withHolder(err)
	}
	defer func() { err = errors.Join(err, i.Close()) }()
	if err = i.Resume(ctx); err != nil {
		err = installError(i, fmt.Errorf("the interrupted installation: %w", err))
	} else {
		err = run(i)
	}
	if _, rebootErr := i.Reboot(ctx); rebootErr != nil {
		return errors.Join(fmt.Errorf("reboot: %w", rebootErr), err)
	}
	return err
}

// Outcome is the result of Install and Update.
type Outcome struct {
	Installed []install.Result `json:"installed"` // by this run, in order
	Status    Summary          `json:"status"`
	Update    *update.Name     `json:"update,omitempty"` // the update that waits
	Waits     string           `json:"waits,omitempty"`  // why
	Held      []Held           `json:"held,omitempty"`
}

// Summary is the short form of what is installed.
type Summary struct {
	Installed *update.Name `json:"installed"`
	Reboot    bool         `json:"reboot"` // a reboot was requested, or is due
}

func statusOf(s install.Status) Summary { return Summary{installedName(s), s.Reboot != nil} }

// Waiting reports whether an update waits, or nothing was installed and one was set aside.
func (o Outcome) Waiting() bool {
	failed := func(h Held) bool { return h.Hold == holdFailed }
	return o.Update != nil || len(o.Installed) == 0 && slices.ContainsFunc(o.Held, failed)
}
