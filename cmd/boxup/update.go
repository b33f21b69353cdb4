package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update/install"
)

// maxSteps bounds how many updates one run installs, each of which the next one needs.
const maxSteps = 16

func (p *program) updateCommand() *cobra.Command {
	var w wishes
	var splay time.Duration
	cmd := &cobra.Command{
		Use:   "update [--key FILE URL]",
		Short: "Check, fetch, verify and install",
		Long: `Asks the mirrors, downloads the update that is for this box, verifies and installs it. Where the newest
one needs another to be installed first, that one goes first.

With "window" in the configuration, such as "02:00-04:00", updates are downloaded at any time and
installed only then. With "max_bytes_per_day" a longer update comes in parts, day by day.

With --key, and the URL of a server, nothing but release.pub is needed: the newest update of that server
is downloaded and checked by its detached signature. Such a box can't tell a list that is old from one
that is new; beyond that it never goes below what is installed.`,
		Example: "  boxup update\n  boxup update --key release.pub http://127.0.0.1:8151",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (w.key != "") != (len(args) == 1) {
				return cli.Usagef("a URL and --key belong together; without both the configured mirrors are asked")
			}
			if c, err := p.plainConfig(); err == nil && c.interrupted() {
				splay = min(splay, 0)
			}
			if err := p.delay(cmd.Context(), splay); err != nil {
				return err
			}
			if w.key != "" {
				return p.plainUpdate(cmd.Context(), w, args[0])
			}
			return p.withInstallingBox(cmd.Context(), func(b *box, i *install.Installer) error { return b.update(cmd.Context(), i, w) })
		},
	}
	w.downgradeFlag(cmd)
	w.keyFlag(cmd)
	cmd.Flags().BoolVar(&w.anyTime, "any-time", false, "install outside of the maintenance window too")
	splayFlag(cmd, &splay)
	return p.jsonFlag(cmd)
}

func (b *box) update(ctx context.Context, i *install.Installer, w wishes) error {
	repo, err := b.refresh(ctx)
	if err != nil {
		if repo = b.fetchedBefore(ctx, err, i.Status(), w); repo == nil {
			return err
		}
		b.warn("no mirror could be reached; what was fetched before is installed: %v", err)
	}
	var out outcome
	for range maxSteps {
		o := b.offer(repo, i.Status(), w.downgrade)
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
	if err := errors.Join(err, b.tell(out)); err != nil {
		return err
	}
	return out.waiting()
}

// fetchedBefore returns the repository that is trusted already, where no mirror could be reached and an update
// for this box was fetched before; else nil. A maintenance window may be the time at which a link is down.
func (b *box) fetchedBefore(ctx context.Context, err error, s install.Status, w wishes) *trust.Repository {
	if ctx.Err() != nil || !unreachable(err) {
		return nil
	}
	repo, err := b.trusted()
	if err != nil {
		return nil
	}
	rel := b.offer(repo, s, w.downgrade).release
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
func (b *box) step(ctx context.Context, i *install.Installer, w wishes, rel trust.Release, out *outcome) error {
	err := b.tryStep(ctx, i, w, rel, out)
	if errors.Is(err, install.ErrMismatch) {
		b.warn("%v: it comes once more", err)
		err = b.tryStep(ctx, i, w, rel, out)
	}
	return err
}

func (b *box) tryStep(ctx context.Context, i *install.Installer, w wishes, rel trust.Release, out *outcome) error {
	f, err := b.fetch(ctx, rel)
	if err != nil {
		return err
	}
	defer f.Close() // opened for reading
	if !w.anyTime && !b.Window.open(b.streams.Now()) {
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
