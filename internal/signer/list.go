package signer

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/mirror/publish"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// listOptions are the flags of commands that make a new list.
type listOptions struct {
	options
	keep        int // 0: all
	force, hold bool
	conditions  conditionFlags
}

// listEdit makes the changes of a new list; nil makes none.
type listEdit func(*session, *trust.TargetsEdit) error

func (o *listOptions) listFlags(cmd *cobra.Command) {
	o.repoFlags(cmd)
	f := cmd.Flags()
	f.IntVar(&o.keep, "keep", 0, "list only the newest `N` versions of each product")
	f.BoolVar(&o.hold, "hold", false, "keep it waiting for more signatures, even where there are enough")
}

func newAdd(s cli.Streams) *cobra.Command {
	var o listOptions
	cmd := &cobra.Command{
		Use:   "add FILE…",
		Short: "Sign updates and publish them in a repository",
		Long: `Sign updates and publish them in a repository: each archive is inspected, hashed and copied, and a new
list is signed and published. Where the threshold is not met yet, it waits in the repository for
boxsign cosign.`,
		Example: `  boxsign add --keys K --repo R opq-box-update-1550190683.tar.bz2`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withHint(add(cmd.Context(), s, o, args))
		},
	}
	o.listFlags(cmd)
	forceFlag(cmd, &o.force)
	o.conditions.flags(cmd)
	return cmd
}

func add(ctx context.Context, s cli.Streams, o listOptions, paths []string) error {
	conditions, err := o.conditions.parse()
	if err != nil {
		return err
	}
	files, additions, err := readAll(ctx, s, paths, o.force)
	if err != nil {
		return err
	}
	return changeList(ctx, s, o, files, func(x *session, e *trust.TargetsEdit) error {
		for _, a := range additions {
			a.Conditions = conditions
			if err := x.add(e, a); err != nil {
				return err
			}
		}
		return nil
	})
}

// add lists an update. One that is listed stays as it is; where other conditions are given for it, it is
// refused.
func (x *session) add(e *trust.TargetsEdit, a trust.Addition) error {
	if err := checkMinVersion(a); err != nil {
		return err
	}
	had, listed := x.base.Release(a.Name)
	if given := a.Conditions; listed && had.Digest() == a.Digest && !sameConditions(given, trust.Conditions{}) && !sameConditions(given, had.Conditions()) {
		return status.WithHint(fmt.Errorf("%v is listed already, for other boxes", a.Name),
			"boxsign rollout changes its rollout; for other hardware or another lowest version build it again with another version")
	}
	return e.Add(a)
}

// readAll inspects and hashes archives.
func readAll(ctx context.Context, s cli.Streams, paths []string, force bool) (publish.Files, []trust.Addition, error) {
	read, err := readProper(ctx, s, force, paths...)
	if err != nil {
		return nil, nil, err
	}
	files := publish.Files{}
	var out []trust.Addition
	for i, what := range read {
		files[what.Digest] = publish.File{Path: paths[i], Blocks: what.blocks}
		out = append(out, trust.Addition{
			Name: what.Name, Digest: what.Digest, Length: what.Length,
			Blocks: update.Sum(what.blocks.Bytes()), Unpacked: what.Unpacked,
		})
	}
	return files, out, nil
}

func newWithdraw(s cli.Streams) *cobra.Command {
	var o listOptions
	cmd := &cobra.Command{
		Use:   "withdraw NAME… [DIR|URL]",
		Short: "Take updates off the list",
		Long: `Publish a list without these updates. Boxes that have them keep them; no other box installs them once it
has seen the new list. A name that was withdrawn never comes back with another content.`,
		Example: `  boxsign withdraw --keys K --repo R opq-box-update-1550190683.tar.bz2`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			names := o.takePlace(args)
			if len(names) == 0 {
				return cli.Usagef("which updates?")
			}
			return withHint(withdraw(cmd.Context(), s, o, names))
		},
	}
	o.listFlags(cmd)
	return cmd
}

func withdraw(ctx context.Context, s cli.Streams, o listOptions, args []string) error {
	var names []update.Name
	for _, arg := range args {
		n, err := parseArchivePath(arg)
		if err != nil {
			return err
		}
		names = append(names, n)
	}
	return changeList(ctx, s, o, nil, func(x *session, e *trust.TargetsEdit) error {
		for _, n := range names {
			_, listed := x.base.Release(n)
			if _, was := x.trusted.Ledger().Digest(n); was && !listed {
				continue // withdrawn already
			}
			if err := e.Withdraw(n); err != nil {
				return status.WithHint(err, "boxsign status lists what is published")
			}
		}
		return nil
	})
}

// changeList makes, signs and submits the next list.
func changeList(ctx context.Context, s cli.Streams, o listOptions, files publish.Files, edit listEdit) error {
	return inSession(ctx, s, o.options, !o.dryRun, func(x *session) error {
		return x.changeList(ctx, o, files, edit)
	})
}

// changeList makes the next list anew, on the new base, as often as another signer was faster.
func (x *session) changeList(ctx context.Context, o listOptions, files publish.Files, edit listEdit) error {
	if !o.dryRun {
		if err := x.afterOthers(ctx, o, edit); err != nil {
			return err
		}
	}
	for {
		e, err := x.editList(o, edit)
		if err != nil {
			return err
		}
		var lost []trust.Release
		if e.Plan().Empty() {
			if lost, err = x.lost(ctx, files); err != nil {
				return err
			}
			if len(lost) == 0 {
				return x.unchangedList(ctx)
			}
		}
		err = x.signList(ctx, e, listing{files: files, hold: o.hold, lost: lost})
		if !errors.Is(err, trust.ErrConflict) {
			return err
		}
		if err := x.meanwhile(ctx, e.Plan(), err); err != nil {
			return err
		}
	}
}

// unchangedList says that there is nothing to sign in the list. What waits goes on waiting.
func (x *session) unchangedList(ctx context.Context) error {
	var notes []string
	for _, w := range x.waiting(trust.RoleTargets) {
		notes = append(notes, fmt.Sprintf("targets %d waits for signatures", w.Version()))
	}
	return x.unchanged(ctx, trust.RoleTargets, notes...)
}

// afterOthers waits for the list that another signer is sending, and shows what it changed.
func (x *session) afterOthers(ctx context.Context, o listOptions, edit listEdit) error {
	before := x.base
	if x.othersList() == 0 {
		return nil
	}
	mine, err := x.editList(o, edit)
	if err != nil {
		return err
	}
	if _, err := x.awaitOthers(ctx); err != nil {
		return err
	}
	return x.apart(before, names(mine.Plan()))
}

func (x *session) editList(o listOptions, edit listEdit) (*trust.TargetsEdit, error) {
	if err := x.current(); err != nil {
		return nil, err
	}
	if o.keep < 0 {
		return nil, cli.Usagef("--keep %d: expected 1 or more", o.keep)
	}
	e, err := x.base.EditTargets(x.trusted.Ledger(), x.reserved, x.at)
	if err != nil {
		return nil, err
	}
	if edit != nil {
		if err := edit(x, e); err != nil {
			return nil, err
		}
	}
	if o.keep > 0 {
		e.Keep(o.keep)
	}
	return e, nil
}

func newAbort(s cli.Streams) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "abort",
		Short: "Replace what waits for signatures, so that it never comes out",
		Long: `Replace a list that waits for signatures by one with a higher number and no change: whoever has a copy of
the old one can't publish it any more, once the new one is out. A root that waits is put away; whoever
has a copy with enough signatures can publish it until another root has its number: boxsign root renew.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withHint(abort(cmd.Context(), s, o))
		},
	}
	o.repoFlags(cmd)
	return cmd
}

var errNothingWaits = errors.New("nothing waits for signatures")

func abort(ctx context.Context, s cli.Streams, o options) error {
	return inSession(ctx, s, o, !o.dryRun, func(x *session) error {
		lists, roots := x.reserved > x.base.Version(trust.RoleTargets), x.waiting(trust.RoleRoot)
		if !lists && len(roots) == 0 {
			if !o.dryRun {
				if err := x.settle(ctx, trust.RoleTargets); err != nil {
					return err
				}
			}
			return status.WithHint(errNothingWaits, "what is published is taken back with boxsign withdraw")
		}
		if lists {
			e, err := x.editList(listOptions{}, nil)
			if err != nil {
				return err
			}
			return x.signList(ctx, e, listing{})
		}
		return x.dropRoots(ctx, roots)
	})
}

func (x *session) dropRoots(ctx context.Context, roots []*trust.Proposal) error {
	for _, p := range roots {
		c := x.describe(p.Plan())
		c.State = stateDryRun
		if !x.o.dryRun {
			if err := x.confirm(ctx, c); err != nil {
				return err
			}
			if err := x.place.Drop(ctx, p); errors.Is(err, publish.ErrOrigin) {
				return status.WithHint(err, "make the root that you want: it takes the place of what you signed, and boxsign root sign --id chooses between those of several signers")
			} else if err != nil {
				return err
			}
			c.State = "put away"
		}
		if err := show(x.s, x.o.json, c); err != nil {
			return err
		}
	}
	return nil
}
