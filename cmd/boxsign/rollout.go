package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/signer"
)

func newRolloutCommands(s cli.Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rollout",
		Short: "Pause, resume or finish the rollout of an update",
		Long: `Change which share of the boxes takes an update that was published with --rollout: a new list is signed
and published. A box decides by itself, from its machine ID and the name of the update, and what it has
installed it keeps.`,
	}
	cmd.AddCommand(
		newRolloutChange(s, "pause", "Keep the share of the boxes as it is now", `Keep the share of the boxes as it is now. Boxes that take the update already can still install it;
boxsign withdraw takes it from all that have not. A box learns of it with the next list that it sees, at the
latest when the timestamp that it trusts expires: the command says when that is.`, (*signer.Signer).PauseRollout),
		newRolloutChange(s, "resume", "Go on where the rollout was paused", `Go on where the rollout was paused: the steps that were still to come are later by as long as the pause
was. Every box that takes the update keeps it.`, (*signer.Signer).ResumeRollout),
		newRolloutChange(s, "finish", "Have all boxes take the update now", `Have all boxes take the update now. Conditions on hardware and version stay.`, (*signer.Signer).FinishRollout),
		newRolloutShow(s),
	)
	return cmd
}

// rolloutChange is a method of signer.Signer that changes the rollout of an update.
type rolloutChange func(k *signer.Signer, ctx context.Context, update string, hold bool) (signer.Change, error)

func newRolloutChange(s cli.Streams, verb, short, long string, change rolloutChange) *cobra.Command {
	var o options
	hold := false
	cmd := &cobra.Command{
		Use:     verb + " NAME [DIR|URL]",
		Short:   short,
		Long:    long,
		Example: `  boxsign rollout ` + verb + ` --keys K opq-box-update-1550190683.tar.bz2 http://127.0.0.1:8151`,
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 {
				o.repo = args[1]
			}
			return run(s, &o, func(k *signer.Signer) (signer.Change, error) { return change(k, cmd.Context(), args[0], hold) })
		},
	}
	o.repoFlags(cmd)
	holdFlag(cmd, &hold)
	return cmd
}

func newRolloutShow(s cli.Streams) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:     "show NAME [DIR|URL]",
		Short:   "Show which boxes take an update, and when",
		Example: `  boxsign rollout show --keys K opq-box-update-1550190683.tar.bz2 http://127.0.0.1:8151`,
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 {
				o.repo = args[1]
			}
			return run(s, &o, func(k *signer.Signer) (signer.RolloutShown, error) { return k.ShowRollout(cmd.Context(), args[0]) })
		},
	}
	o.readFlags(cmd)
	return cmd
}
