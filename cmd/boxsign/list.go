package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/signer"
	"github.com/openpowerquality/box-update-server/status"
)

func newInit(s cli.Streams) *cobra.Command {
	rootThreshold, releaseThreshold := 1, 1
	cmd := newCommand(s, &cobra.Command{
		Use:   "init",
		Short: "Make keys and an empty repository",
		Long: `Make keys and an empty repository.

init uses the keys that are in the directory of keys or that flags name, and makes those of root, release and online
that are missing. Boxes need release.pub of that directory, or metadata/1.root.json of the repository. To add other
signers later, see boxsign root add-key.`,
		Example: `  boxsign init --keys K --repo R`,
		Args:    cobra.NoArgs,
	}, (*options).makeFlags, func(ctx context.Context, k *signer.Signer, _ []string) (signer.Result, error) {
		return k.Init(ctx, rootThreshold, releaseThreshold)
	})
	cmd.Flags().IntVar(&rootThreshold, "root-threshold", 1, "`N` root keys must sign a root")
	cmd.Flags().IntVar(&releaseThreshold, "release-threshold", 1, "`N` release keys must sign a list")
	return cmd
}

// addOptions holds the flags of add and publish.
type addOptions struct {
	signer.AddOptions
	rollout, hardware, minVersion string
}

func (o *addOptions) flags(cmd *cobra.Command) *cobra.Command {
	listFlags(cmd, &o.ListOptions)
	forceFlag(cmd, &o.Force)
	f := cmd.Flags()
	f.StringVar(&o.rollout, "rollout", "", "the share of the boxes that takes the update, by time after publishing: `STEPS` like 5%,24h:50%,72h:100%")
	f.StringVar(&o.hardware, "hardware", "", "only for boxes with this hardware: `LIST` like rev2,rev3")
	f.StringVar(&o.minVersion, "min-version", "", "only for boxes with version `N` or a newer one")
	return cmd
}

func listFlags(cmd *cobra.Command, l *signer.ListOptions) {
	cmd.Flags().IntVar(&l.Keep, "keep", 0, "list only the newest `N` versions of each product")
	holdFlag(cmd, &l.Hold)
}

func (o *addOptions) add(ctx context.Context, k *signer.Signer, files []string) (_ signer.Result, err error) {
	if o.Conditions, err = signer.ParseConditions(o.rollout, o.hardware, o.minVersion); err != nil {
		return nil, err
	}
	return k.Add(ctx, o.AddOptions, files...)
}

func newAdd(s cli.Streams) *cobra.Command {
	var o addOptions
	return o.flags(newRepoCommand(s, &cobra.Command{
		Use:   "add FILE…",
		Short: "Sign updates and publish them in a repository",
		Long: `Sign updates and publish them in a repository: inspect, hash and copy each archive, then sign and publish a new list.
If the list needs more signatures, it waits in the repository for boxsign cosign.`,
		Example: `  boxsign add --keys K --repo R opq-box-update-1550190683.tar.bz2`,
		Args:    cobra.MinimumNArgs(1),
	}, o.add))
}

func newPublish(s cli.Streams) *cobra.Command {
	var o addOptions
	return o.flags(newRepoCommand(s, &cobra.Command{
		Use:   "publish FILE… [DIR|URL]",
		Short: "Sign updates and publish them at an origin",
		Long: `Sign updates and publish them at an origin: inspect and hash each archive, sign a new list, send what the origin
lacks in blocks of 4 MiB, and compare what the origin then serves with what was signed.

After an interruption, the same command continues where it stopped. If another signer published meanwhile, boxsign
shows that change and signs yours again on top of it.`,
		Example: "  boxsign publish --keys K opq-box-update-1550190683.tar.bz2 \\\n    http://127.0.0.1:8151",
		Args:    cobra.MinimumNArgs(1),
	}, func(ctx context.Context, k *signer.Signer, args []string) (signer.Result, error) {
		files := cutPlace(k, args)
		if len(files) == 0 {
			return nil, status.WithHint(status.Usagef("no update: expected FILE…"), "name the archives before the directory or URL")
		}
		return o.add(ctx, k, files)
	}))
}

func newWithdraw(s cli.Streams) *cobra.Command {
	var l signer.ListOptions
	cmd := newRepoCommand(s, &cobra.Command{
		Use:   "withdraw NAME… [DIR|URL]",
		Short: "Remove updates from the list",
		Long: `Publish a list without these updates. Boxes that have installed them keep them; other boxes do not install them
once they have seen the new list. A withdrawn name never returns with another content.`,
		Example: `  boxsign withdraw --keys K --repo R opq-box-update-1550190683.tar.bz2`,
		Args:    cobra.MinimumNArgs(1),
	}, func(ctx context.Context, k *signer.Signer, args []string) (signer.Result, error) {
		names := cutPlace(k, args)
		if len(names) == 0 {
			return nil, status.Usagef("no update: expected NAME…")
		}
		return k.Withdraw(ctx, l, names...)
	})
	listFlags(cmd, &l)
	return completeNames(s, cmd)
}

func newRolloutCommands(s cli.Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rollout",
		Short: "Pause, resume or finish the rollout of an update",
		Long: `Change which share of the boxes takes an update that was published with --rollout: sign and publish a new list. Each
box decides by itself, from its machine ID and the name of the update. A box keeps what it has installed.`,
	}
	cmd.AddCommand(
		newRolloutChange(s, "pause", "Keep the share of the boxes as it is now", `Keep the share of the boxes as it is now. Boxes in that share can still install the update; boxsign withdraw
stops it for all boxes that have not installed it. A box learns of the pause from the next list that it sees, at the
latest when the timestamp that it trusts expires. The command prints that time.`, (*signer.Signer).PauseRollout),
		newRolloutChange(s, "resume", "Continue a paused rollout", `Continue a paused rollout. The remaining steps are delayed by the length of the pause. Boxes that take the update
keep it.`, (*signer.Signer).ResumeRollout),
		newRolloutChange(s, "finish", "Let all boxes take the update now", `Let all boxes take the update now. Conditions on hardware and version stay.`, (*signer.Signer).FinishRollout),
		newRolloutCommand(s, (*options).readFlags, "show", "Show which boxes take an update, and when", "",
			func(ctx context.Context, k *signer.Signer, args []string) (signer.Result, error) {
				return k.ShowRollout(ctx, args[0])
			}),
	)
	return cmd
}

// rolloutChange is a method of signer.Signer that changes the rollout of an update.
type rolloutChange func(k *signer.Signer, ctx context.Context, update string, hold bool) (signer.Change, error)

func newRolloutChange(s cli.Streams, verb, short, long string, change rolloutChange) *cobra.Command {
	hold := false
	cmd := newRolloutCommand(s, (*options).repoFlags, verb, short, long, func(ctx context.Context, k *signer.Signer, args []string) (signer.Result, error) {
		return change(k, ctx, args[0], hold)
	})
	holdFlag(cmd, &hold)
	return cmd
}

func newRolloutCommand(s cli.Streams, flags func(*options, *cobra.Command), verb, short, long string, call action) *cobra.Command {
	return completeNames(s, newCommand(s, &cobra.Command{
		Use:     verb + " NAME [DIR|URL]",
		Short:   short,
		Long:    long,
		Example: "  boxsign rollout " + verb + " --keys K opq-box-update-1550190683.tar.bz2 \\\n    http://127.0.0.1:8151",
		Args:    cobra.RangeArgs(1, 2),
	}, flags, func(ctx context.Context, k *signer.Signer, args []string) (signer.Result, error) {
		if len(args) == 2 {
			k.Repository = args[1]
		}
		return call(ctx, k, args)
	}))
}

func newCosign(s cli.Streams) *cobra.Command {
	var c signer.CosignOptions
	cmd := newRepoCommand(s, &cobra.Command{
		Use:   "cosign [FILE…] [DIR|URL]",
		Short: "Add your signature to the list that waits for it",
		Long: `Add your signature to the newest list that waits in the repository, and publish the list if that was the last
signature that it needs. FILE gives an archive that the repository lacks; a FILE that differs from what the list
names is refused.`,
		Example: `  boxsign cosign --keys K2 http://127.0.0.1:8151`,
	}, func(ctx context.Context, k *signer.Signer, args []string) (signer.Result, error) {
		return k.Cosign(ctx, c, cutPlace(k, args)...)
	})
	idFlag(cmd, &c.ID)
	holdFlag(cmd, &c.Hold)
	return cmd
}

func idFlag(cmd *cobra.Command, id *string) {
	cmd.Flags().StringVar(id, "id", "", "if several wait, sign the one with this `ID`, which boxsign status shows")
}

func newAbort(s cli.Streams) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "abort",
		Short: "Give up what waits for signatures, so that nobody can publish it",
		Long: `Replace a list that waits for signatures by one with a higher number and no change. Once the new list is published,
nobody can publish a copy of the old one. A root that waits is dropped; a copy of it with enough signatures can be
published until another root has its number: boxsign root renew.`,
		Example: `  boxsign abort --keys K --repo R`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, k, end := o.signer(cmd.Context(), s)
			done, err := k.Abort(ctx)
			end()
			for _, c := range done {
				err = errors.Join(o.print(s, c), err)
			}
			return err
		},
	}
	o.repoFlags(cmd)
	return cmd
}

func newRenew(s cli.Streams) *cobra.Command {
	list := false
	cmd := newRepoCommand(s, &cobra.Command{
		Use:   "renew",
		Short: "Sign again what expires",
		Long: `Sign a new timestamp with the online key, and a new snapshot when half of its time is over. A server on the repository
does that by itself; a directory behind another web server needs it at least every 7 days. With --list, also sign
the list again with the release key, without a change and valid for another year.`,
		Example: `  boxsign renew --keys K --repo R`,
		Args:    cobra.NoArgs,
	}, func(ctx context.Context, k *signer.Signer, _ []string) (signer.Result, error) {
		if list {
			return k.RenewList(ctx)
		}
		return k.Renew(ctx)
	})
	cmd.Flags().BoolVar(&list, "list", false, "also sign the list again")
	return cmd
}

func newLs(s cli.Streams) *cobra.Command {
	var f signer.ListFilter
	cmd := newCommand(s, &cobra.Command{
		Use:   "ls [DIR|URL]",
		Short: "List the updates of a repository as a table",
		Long: `List the updates of a repository, the newest version of each product first:
how long ago each was published, its size, how many signatures it has, which
share of the boxes and which hardware takes it, and why no further box does.
Withdrawn updates are not in the list.`,
		Example: `  boxsign ls --keys K http://127.0.0.1:8151
  boxsign ls --keys K --repo R --since 30d --newest 3`,
		Args: cobra.MaximumNArgs(1),
	}, (*options).readFlags, func(ctx context.Context, k *signer.Signer, args []string) (signer.Result, error) {
		if len(cutPlace(k, args)) > 0 {
			return nil, status.Usagef("%s: expected the directory or URL of a repository", args[0])
		}
		return k.Ls(ctx, f)
	})
	cmd.Flags().StringVar(&f.Product, "product", "", "only updates of `PRODUCT`")
	cmd.Flags().StringVar(&f.Since, "since", "", "only updates published since `TIME`: 2026-11-30, or 7d ago")
	cmd.Flags().IntVar(&f.Newest, "newest", 0, "only the newest `N` versions of each product")
	return cmd
}

func newStatus(s cli.Streams) *cobra.Command {
	verbose := false
	cmd := newCommand(s, &cobra.Command{
		Use:     "status [DIR|URL]",
		Short:   "Show who can sign, what expires and what waits",
		Example: `  boxsign status http://127.0.0.1:8151`,
		Args:    cobra.MaximumNArgs(1),
	}, (*options).readFlags, func(ctx context.Context, k *signer.Signer, args []string) (signer.Result, error) {
		if len(cutPlace(k, args)) > 0 {
			return nil, status.Usagef("%s: expected the directory or URL of a repository", args[0])
		}
		st, err := k.Status(ctx)
		st.Verbose = verbose
		return st, err
	})
	cmd.Flags().BoolVar(&verbose, "verbose", false, "show every update and every key too")
	return cmd
}

func newVerifyRepo(s cli.Streams) *cobra.Command {
	metadataOnly := false
	cmd := newCommand(s, &cobra.Command{
		Use:   "verify-repo DIR|URL",
		Short: "Verify a whole repository from a root",
		Long: `Verify a repository as a box does, from a root that you trust: every later root, signatures, expiry, every detached
signature and every archive. The exit code is 1 if something is wrong.`,
		Example: `  boxsign verify-repo --root 1.root.json R
  boxsign verify-repo --root 1.root.json http://127.0.0.1:8151`,
		Args: cobra.ExactArgs(1),
	}, func(o *options, cmd *cobra.Command) {
		o.jsonFlag(cmd)
		cmd.Flags().StringVar(&o.root, "root", "", "`FILE` with the root to trust, such as the 1.root.json that boxes have")
	}, func(ctx context.Context, k *signer.Signer, args []string) (signer.Result, error) {
		k.Repository = args[0]
		return k.VerifyRepository(ctx, !metadataOnly)
	})
	cmd.Flags().BoolVar(&metadataOnly, "metadata-only", false, "don't read the archives")
	return cmd
}
