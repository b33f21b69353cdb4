package signer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/mirror/publish"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

func newCosign(s cli.Streams) *cobra.Command {
	var o cosignOptions
	cmd := &cobra.Command{
		Use:   "cosign [FILE…] [DIR|URL]",
		Short: "Add your signature to the list that waits for it",
		Long: `Add your signature to the newest list that waits in the repository. With the last signature that the
threshold asks for it is published. An archive that is not in the repository yet comes from FILE; a FILE that is
not what the list names is refused.`,
		Example: `  boxsign cosign --keys K2 http://127.0.0.1:8151`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return withHint(cosign(cmd.Context(), s, o, trust.RoleTargets, o.takePlace(args)))
		},
	}
	o.repoFlags(cmd)
	o.idFlag(cmd)
	cmd.Flags().BoolVar(&o.hold, "hold", false, "keep it waiting for more signatures, even where there are enough")
	return cmd
}

// cosignOptions are the flags of cosign and root sign.
type cosignOptions struct {
	options
	hold bool
	id   string // "" for the newest
}

func (o *cosignOptions) idFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.id, "id", "", "sign the one with this `ID`, which boxsign status shows, where several wait")
}

// choose returns the proposal to sign among those that wait, of which there is one: that with the ID or
// else the newest. A thief of one key may have put another beside it, so that of two with one number none is
// the newest.
func (o *cosignOptions) choose(waiting []*trust.Proposal) (*trust.Proposal, error) {
	var out []*trust.Proposal
	newest := waiting[len(waiting)-1].Version()
	for _, p := range waiting {
		if o.id == update.Sum(p.Raw()).String() || o.id == "" && p.Version() == newest {
			out = append(out, p)
		}
	}
	switch {
	case len(out) == 0:
		return nil, status.WithHint(fmt.Errorf("--id %.64q: %w with that ID", o.id, errNothingWaits), "boxsign status shows what waits; the ID changes with each signature")
	case len(out) > 1:
		return nil, status.WithHint(fmt.Errorf("%s %d: %d with that number wait", out[0].Role(), newest, len(out)), "look at them with boxsign status, and choose one with --id")
	}
	return out[0], nil
}

// match refuses files that are not what a list names: whoever gives one has looked at that.
func match(p *trust.Proposal, given []trust.Addition) error {
	for _, a := range given {
		at := slices.IndexFunc(p.Releases(), func(r trust.Release) bool { return r.Name() == a.Name })
		if at < 0 {
			return fmt.Errorf("%v: targets %d does not list it", a.Name, p.Version())
		}
		if r := p.Releases()[at]; r.Digest() != a.Digest {
			return status.WithHint(fmt.Errorf("%v: %w: targets %d lists it with digest %v, and the file has %v", a.Name, trust.ErrMismatch, p.Version(), r.Digest(), a.Digest),
				"don't sign it: find out who made which of the two")
		}
	}
	return nil
}

// cosign signs what waits in a role.
func cosign(ctx context.Context, s cli.Streams, o cosignOptions, role trust.Role, paths []string) error {
	files, given, err := readAll(ctx, s, paths, true)
	if err != nil {
		return err
	}
	return inSession(ctx, s, o.options, !o.dryRun, func(x *session) error {
		waiting := x.waiting(role)
		if p := x.unpublished(); len(waiting) == 0 && role == trust.RoleTargets && p != nil && p.Complete() && !o.dryRun {
			if err := match(p, given); err != nil {
				return err
			}
			return x.finish(ctx, p, files, false) // signed the last time, and cut
		}
		if len(waiting) == 0 && o.id == "" && slices.ContainsFunc(x.base.Signers(role), x.ring.owns) {
			return x.unchanged(ctx, role, fmt.Sprintf("%v: %s %d, which you signed, is published", errNothingWaits, role, x.base.Version(role)))
		}
		if len(waiting) == 0 {
			return status.WithHint(fmt.Errorf("%w in the role %s", errNothingWaits, role), "boxsign status shows what waits; it may have been published already")
		}
		p, err := o.choose(waiting)
		if err != nil {
			return err
		}
		if err := match(p, given); err != nil {
			return err
		}
		c := x.describe(p.Plan())
		c.wait(p.Needs())
		if x.o.dryRun {
			c.State = stateDryRun
			return show(s, o.json, c)
		}
		if err := x.confirm(ctx, c); err != nil {
			return err
		}
		return x.addSignature(ctx, p, files, o.hold)
	})
}

func (x *session) addSignature(ctx context.Context, p *trust.Proposal, files publish.Files, hold bool) error {
	kind := releasePart
	if p.Role() == trust.RoleRoot {
		kind = rootPart
	}
	by, err := x.signers(ctx, kind)
	if err != nil {
		return err
	}
	if p, err = p.Cosign(ctx, by...); err != nil {
		return err
	}
	if p.Role() == trust.RoleTargets {
		if err := x.keepSigned(p); err != nil {
			return err
		}
	}
	return x.finish(ctx, p, files, hold)
}

// finish submits a list or a root, and looks at what is then served.
func (x *session) finish(ctx context.Context, p *trust.Proposal, files publish.Files, hold bool) error {
	done, err := x.submit(ctx, p, files, hold)
	if _, remote := x.place.(shown); remote && errors.Is(err, publish.ErrNoFile) {
		// The signature counts there: what is missing is not the cosigner's to bring.
		done, err = x.describe(p.Plan()), nil
		done.State = stateArchives
		done.Notes = append(done.Notes, "it has its signatures; whoever has the archives says boxsign publish FILE again to send them")
	}
	if err != nil {
		return err
	}
	if err := x.settled(done); err != nil {
		return err
	}
	if done.At, err = x.served(ctx, p, files); err != nil {
		return err
	}
	return show(x.s, x.o.json, done)
}
