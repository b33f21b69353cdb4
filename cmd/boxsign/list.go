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
	var o options
	rootThreshold, releaseThreshold := 1, 1
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make keys and an empty repository",
		Long: `Make keys and an empty repository.

Keys that are in the directory of keys, or that flags name, are used; the missing ones of root, release
and online are made. What boxes need is release.pub of that directory, or metadata/1.root.json of the
repository. Other signers are added later: see boxsign root add-key.`,
		Example: `  boxsign init --keys K --repo R`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(s, &o, func(k *signer.Signer) (signer.Result, error) {
				return k.Init(cmd.Context(), rootThreshold, releaseThreshold)
			})
		},
	}
	o.repoFlags(cmd)
	cmd.Flags().IntVar(&rootThreshold, "root-threshold", 1, "`N` root keys must sign a root")
	cmd.Flags().IntVar(&releaseThreshold, "release-threshold", 1, "`N` release keys must sign a list")
	return cmd
}

func newAdd(s cli.Streams) *cobra.Command {
	var o addOptions
	cmd := &cobra.Command{
		Use:   "add FILE…",
		Short: "Sign updates and publish them in a repository",
		Long: `Sign updates and publish them in a repository: each archive is inspected, hashed and copied, and a new
list is signed and published. Where the threshold is not met yet, it waits in the repository for
boxsign cosign.`,
		Example: `  boxsign add --keys K --repo R opq-box-update-1550190683.tar.bz2`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), s, args)
		},
	}
	o.flags(cmd)
	return cmd
}

func newPublish(s cli.Streams) *cobra.Command {
	var o addOptions
	cmd := &cobra.Command{
		Use:   "publish FILE… [DIR|URL]",
		Short: "Sign updates and publish them at an origin",
		Long: `Sign updates and publish them at an origin: each archive is inspected and hashed, a new list is signed,
what the origin lacks is sent in blocks of 4 MiB, and what is then served is compared with what was signed.
A publish that was cut goes on where it stopped when it is said again. Where another signer was faster, their
change is shown, and yours is signed again on top of it.`,
		Example: `  boxsign publish --keys K opq-box-update-1550190683.tar.bz2 http://127.0.0.1:8151`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			files := o.cutPlace(args)
			if len(files) == 0 {
				return status.WithHint(status.Usagef("which updates?"), "name their archives before the directory or URL")
			}
			return o.run(cmd.Context(), s, files)
		},
	}
	o.flags(cmd)
	return cmd
}

// addOptions holds the flags of add and publish.
type addOptions struct {
	options
	add                           signer.AddOptions
	rollout, hardware, minVersion string
}

func (o *addOptions) flags(cmd *cobra.Command) {
	o.repoFlags(cmd)
	listFlags(cmd, &o.add.ListOptions)
	forceFlag(cmd, &o.add.Force)
	f := cmd.Flags()
	f.StringVar(&o.rollout, "rollout", "", "which share of the boxes takes it from when: `STEPS` like 5%,24h:50%,72h:100%, counted from now")
	f.StringVar(&o.hardware, "hardware", "", "only boxes of this hardware take it: `LIST` like rev2,rev3")
	f.StringVar(&o.minVersion, "min-version", "", "only boxes that have version `N` or a newer one take it")
}

func listFlags(cmd *cobra.Command, l *signer.ListOptions) {
	cmd.Flags().IntVar(&l.Keep, "keep", 0, "list only the newest `N` versions of each product")
	holdFlag(cmd, &l.Hold)
}

func (o *addOptions) run(ctx context.Context, s cli.Streams, files []string) (err error) {
	if o.add.Conditions, err = signer.ParseConditions(o.rollout, o.hardware, o.minVersion); err != nil {
		return err
	}
	return run(s, &o.options, func(k *signer.Signer) (signer.Change, error) { return k.Add(ctx, o.add, files...) })
}

func newWithdraw(s cli.Streams) *cobra.Command {
	var o options
	var l signer.ListOptions
	cmd := &cobra.Command{
		Use:   "withdraw NAME… [DIR|URL]",
		Short: "Take updates off the list",
		Long: `Publish a list without these updates. Boxes that have them keep them; no other box installs them once it
has seen the new list. A name that was withdrawn never comes back with another content.`,
		Example: `  boxsign withdraw --keys K --repo R opq-box-update-1550190683.tar.bz2`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			names := o.cutPlace(args)
			if len(names) == 0 {
				return status.Usagef("which updates?")
			}
			return run(s, &o, func(k *signer.Signer) (signer.Change, error) { return k.Withdraw(cmd.Context(), l, names...) })
		},
	}
	o.repoFlags(cmd)
	listFlags(cmd, &l)
	return cmd
}

func newCosign(s cli.Streams) *cobra.Command {
	var o options
	var c signer.CosignOptions
	cmd := &cobra.Command{
		Use:   "cosign [FILE…] [DIR|URL]",
		Short: "Add your signature to the list that waits for it",
		Long: `Add your signature to the newest list that waits in the repository. With the last signature that the
threshold asks for it is published. An archive that is not in the repository yet comes from FILE; a FILE that is
not what the list names is refused.`,
		Example: `  boxsign cosign --keys K2 http://127.0.0.1:8151`,
		RunE: func(cmd *cobra.Command, args []string) error {
			files := o.cutPlace(args)
			return run(s, &o, func(k *signer.Signer) (signer.Change, error) { return k.Cosign(cmd.Context(), c, files...) })
		},
	}
	o.repoFlags(cmd)
	idFlag(cmd, &c.ID)
	holdFlag(cmd, &c.Hold)
	return cmd
}

func idFlag(cmd *cobra.Command, id *string) {
	cmd.Flags().StringVar(id, "id", "", "sign the one with this `ID`, which boxsign status shows, where several wait")
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
			k, end := o.signer(s)
			done, err := k.Abort(cmd.Context())
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
	var o options
	list := false
	cmd := &cobra.Command{
		Use:   "renew",
		Short: "Sign what expires again",
		Long: `Sign a new timestamp and, when it is half over, a new snapshot, with the online key. A server on the
repository does that by itself; a directory behind another web server needs it at least every 7 days.
With --list the list is signed again with the release key, without a change, valid for another year.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if list {
				return run(s, &o, func(k *signer.Signer) (signer.Change, error) { return k.RenewList(cmd.Context()) })
			}
			return run(s, &o, func(k *signer.Signer) (signer.Renewal, error) { return k.Renew(cmd.Context()) })
		},
	}
	o.repoFlags(cmd)
	cmd.Flags().BoolVar(&list, "list", false, "sign the list again too")
	return cmd
}
