package box

import (
	"context"
	"errors"
	"time"

	"github.com/openpowerquality/box-update-server/internal/pace"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update/install"
)

// maxSteps bounds how many updates one run installs, when each needs the one before.
const maxSteps = 16

// Update checks, fetches and installs. It asks the mirrors or, with opts.Key, server in the plain mode.
func (b *Box) Update(ctx context.Context, server string, opts Options) error {
	if opts.Key != "" {
		return b.plainUpdate(ctx, server, opts)
	}
	return b.changeInstalled(ctx, func(s *session, i *install.Installer) error { return s.update(ctx, i, opts) })
}

// Delay waits for a random time of less than splay, so that the boxes of a fleet don't ask all at once.
func (b *Box) Delay(ctx context.Context, splay time.Duration) error {
	if splay == 0 {
		return nil
	}
	pause := time.Duration(b.Random() * float64(splay))
	defer pace.Waiting(ctx, "pausing for "+pause.Round(time.Second).String()+" because of --splay")()
	return b.Sleep(ctx, pause)
}

// Interrupted reports whether an installation was interrupted, so that services may be stopped.
func (b *Box) Interrupted() bool {
	c, err := b.plainConfig()
	return err == nil && c.interrupted()
}

func (s *session) update(ctx context.Context, i *install.Installer, opts Options) error {
	repo, err := s.refresh(ctx)
	if err != nil {
		if repo = s.fetchedBefore(ctx, err, i.Status(), opts); repo == nil {
			return err
		}
		s.warn("no mirror could be reached; installing the update that was fetched before: %v", err)
	}
	var out Outcome
	for range maxSteps {
		o := s.offer(repo, i.Status(), opts.AllowDowngrade)
		s.warnStale(o)
		out.Held = o.Held
		if o.release.IsZero() {
			err = s.removeUnlisted(repo, i.Status())
			break
		}
		err = s.step(ctx, i, opts, o.release, &out)
		if err != nil || out.Update != nil || i.Status().Reboot != nil {
			break
		}
	}
	out.Status = statusOf(i.Status())
	if err != nil && len(out.Installed) == 0 {
		return err
	}
	return errors.Join(err, opts.Report(out))
}

// fetchedBefore returns the trusted repository if err says that no mirror could be reached and an update for this box was
// fetched before, else nil. The link may be down during every maintenance window, and a fetched update needs no link.
func (s *session) fetchedBefore(ctx context.Context, err error, installed install.Status, opts Options) *trust.Repository {
	if ctx.Err() != nil || !unreachable(err) {
		return nil
	}
	repo, err := s.trusted()
	if err != nil {
		return nil
	}
	rel := s.offer(repo, installed, opts.AllowDowngrade).release
	if rel.IsZero() {
		return nil
	}
	f, err := s.openFetched(ctx, rel)
	if err != nil {
		return nil // it was not fetched yet
	}
	f.Close() // opened for reading
	return repo
}

// step fetches and installs one update, unless it has to wait for the maintenance window. If the archive that was fetched
// before is damaged, step downloads it once more.
func (s *session) step(ctx context.Context, i *install.Installer, opts Options, rel trust.Release, out *Outcome) error {
	err := s.tryStep(ctx, i, opts, rel, out)
	if errors.Is(err, install.ErrMismatch) {
		s.warn("%v: downloading it again", err)
		err = s.tryStep(ctx, i, opts, rel, out)
	}
	return err
}

func (s *session) tryStep(ctx context.Context, i *install.Installer, opts Options, rel trust.Release, out *Outcome) error {
	f, err := s.fetchRelease(ctx, rel)
	if err != nil {
		return err
	}
	defer f.Close() // opened for reading
	if out.Waits = s.waits(opts); out.Waits != "" {
		name := rel.Name()
		out.Update = &name
		return nil
	}
	// The metadata may have expired during a slow download.
	if _, err := s.trusted(); err != nil {
		return err
	}
	result, err := s.install(ctx, i, rel, f, opts)
	if err != nil {
		return err
	}
	out.Installed = append(out.Installed, result)
	return nil
}
