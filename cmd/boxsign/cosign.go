package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/cmd/internal/cli"
	"github.com/openpowerquality/box-update-server/mirror/publish"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

func newCosign(s cli.Streams) *cobra.Command {
	var o listOptions
	cmd := &cobra.Command{
		Use:   "cosign [FILE…]",
		Short: "Add your signature to the list that waits for it",
		Long: `Add your signature to the newest list that waits in the repository. With the last signature that the
threshold asks for it is published. An archive that is not in the repository yet comes from FILE.`,
		Example: `  boxsign cosign --keys K2 --repo R`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return withHint(cosign(cmd.Context(), s, o, trust.RoleTargets, args))
		},
	}
	o.repoFlags(cmd)
	cmd.Flags().BoolVar(&o.hold, "hold", false, "keep it waiting for more signatures, even where there are enough")
	return cmd
}

// cosign signs what waits in a role.
func cosign(ctx context.Context, s cli.Streams, o listOptions, role trust.Role, paths []string) error {
	files, _, err := readAll(ctx, paths, true)
	if err != nil {
		return err
	}
	return inSession(ctx, s, o.options, !o.dryRun, func(x *session) error {
		waiting := x.waiting(role)
		if p := x.unpublished(); len(waiting) == 0 && role == trust.RoleTargets && p != nil && p.Complete() && !o.dryRun {
			return x.finish(ctx, p, files, false) // signed the last time, and cut
		}
		if len(waiting) == 0 {
			return cli.WithHint(fmt.Errorf("%w in the role %s", errNothingWaits, role), "boxsign status shows what waits; it may have been published already")
		}
		p := waiting[len(waiting)-1]
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
