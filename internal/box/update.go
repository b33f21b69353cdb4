package box

import (
	"context"
	"errors"
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update/install"
)

// maxSteps bounds how many updates one run installs, each of which the next one needs.
const maxSteps = 16

// Update checks, fetches and installs. With Options.Key it asks that server, else, where server is "", the mirrors.
func (p *Box) Update(ctx context.Context, server string, w Options) error {
	if w.Key != "" {
		return p.plainUpdate(ctx, w, server)
	}
	return p.changeInstalled(ctx, func(b *box, i *install.Installer) error { return b.update(ctx, i, w) })
}

// Delay waits for a random time of at most so long, so that a fleet does not ask all at once.
func (p *Box) Delay(ctx context.Context, splay time.Duration) error {
	if splay == 0 {
		return nil
	}
	return p.Sleep(ctx, time.Duration(p.Random()*float64(splay)))
}

// Interrupted reports whether an installation was interrupted, so that services may be stopped.
func (p *Box) Interrupted() bool {
	c, err := p.plainConfig()
	return err == nil && c.interrupted()
}

func (b *box) update(ctx context.Context, i *install.Installer, w Options) error {
	repo, err := b.refresh(ctx)
	if err != nil {
		if repo = b.fetchedBefore(ctx, err, i.Status(), w); repo == nil {
			return err
		}
		b.warn("no mirror could be reached; what was fetched before is installed: %v", err)
	}
	var out Outcome
	for range maxSteps {
		o := b.offer(repo, i.Status(), w.AllowDowngrade)
		b.warnStale(o)
		out.Held = o.Held
		if o.release.IsZero() {
			err = b.tidyListed(repo, i.Status())
			break
		}
		err = b.step(ctx, i, w, o.release, &out)
		if err != nil || out.Update != nil || i.Status().Reboot != nil {
			break
		}
	}
	out.Status = statusOf(i.Status())
	if err != nil && len(out.Installed) == 0 {
		return err
	}
	return errors.Join(err, w.Report(out))
}

// fetchedBefore returns the repository that is trusted already, where no mirror could be reached and an update
// for this box was fetched before; else nil. A maintenance window may be the time at which a link is down.
func (b *box) fetchedBefore(ctx context.Context, err error, s install.Status, w Options) *trust.Repository {
	if ctx.Err() != nil || !unreachable(err) {
		return nil
	}
	repo, err := b.trusted()
	if err != nil {
		return nil
	}
	rel := b.offer(repo, s, w.AllowDowngrade).release
	if rel.IsZero() {
		return nil
	}
	f, err := b.stored(ctx, rel)
	if err != nil {
		return nil // it has to come first
	}
	f.Close() // opened for reading
	return repo
}

// step fetches and installs one update, unless it has to wait. Where the disk lost something of what was
// fetched before, it comes once more.
func (b *box) step(ctx context.Context, i *install.Installer, w Options, rel trust.Release, out *Outcome) error {
	err := b.tryStep(ctx, i, w, rel, out)
	if errors.Is(err, install.ErrMismatch) {
		b.warn("%v: it comes once more", err)
		err = b.tryStep(ctx, i, w, rel, out)
	}
	return err
}

func (b *box) tryStep(ctx context.Context, i *install.Installer, w Options, rel trust.Release, out *Outcome) error {
	f, err := b.fetch(ctx, rel)
	if err != nil {
		return err
	}
	defer f.Close() // opened for reading
	if !w.AnyTime && !b.Window.Open(b.Now()) {
		name := rel.Name()
		out.Update, out.Waits = &name, "it is fetched, and installed between "+b.Window.String()
		return nil
	}
	// A slow download may have taken longer than what is known of updates stays valid.
	if _, err := b.trusted(); err != nil {
		return err
	}
	result, err := b.install(ctx, i, rel, f, w)
	if err != nil {
		return err
	}
	out.Installed = append(out.Installed, result)
	return nil
}
