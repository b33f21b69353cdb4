package main

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/signer"
	"github.com/openpowerquality/box-update-server/status"
)

func newRootCommands(s cli.Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "root",
		Short: "Say which keys count, and how many",
		Long: `Say which keys count for a repository, and how many must sign. Each command makes the next root. It must
be signed by the thresholds of the present root and of itself; until then it waits for boxsign root sign.`,
	}
	cmd.AddCommand(
		rootCommand(s, "add-key ROLE FILE", "Let a key in", `Let the public key in FILE sign for ROLE: root, release or online.`, cobra.ExactArgs(2),
			func(ctx context.Context, k *signer.Signer, args []string) (signer.Change, error) {
				return k.AddKey(ctx, args[0], args[1])
			}),
		rootCommand(s, "remove-key ROLE KEY", "Take the right to sign from a key", `Take ROLE from KEY: its ID, its fingerprint or its public key file.`, cobra.ExactArgs(2),
			func(ctx context.Context, k *signer.Signer, args []string) (signer.Change, error) {
				return k.RemoveKey(ctx, args[0], args[1])
			}),
		newThreshold(s),
		rootCommand(s, "renew", "Make the root valid for another year", `Make the next root without a change, valid for another year. It works on an expired root too.`, cobra.NoArgs,
			func(ctx context.Context, k *signer.Signer, _ []string) (signer.Change, error) {
				return k.RenewRoot(ctx)
			}),
		newRootSign(s),
	)
	return cmd
}

// rootChange calls the method of the signer that makes a new root, with the arguments of the command line.
type rootChange func(ctx context.Context, k *signer.Signer, args []string) (signer.Change, error)

func rootCommand(s cli.Streams, use, short, long string, args cobra.PositionalArgs, change rootChange) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Args: args,
		RunE: func(cmd *cobra.Command, args []string) error {
			return run(s, &o, func(k *signer.Signer) (signer.Change, error) { return change(cmd.Context(), k, args) })
		},
	}
	o.repoFlags(cmd)
	return cmd
}

func newThreshold(s cli.Streams) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "threshold ROLE N",
		Short: "Say how many keys must sign",
		Long: `Say how many keys of ROLE, root or release, must sign. Before lists can ask for N signatures, the list
that is published must have N: where it has fewer, a new one is made without a change, which waits for
boxsign cosign; with three signers and more, all but the last say --hold. Then say this again.`,
		Example: `  boxsign root threshold release 2`,
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := strconv.Atoi(args[1])
			if err != nil || n < 1 {
				return status.Usagef("threshold %q: expected a number from 1", args[1])
			}
			return run(s, &o, func(k *signer.Signer) (signer.Change, error) { return k.Threshold(cmd.Context(), args[0], n) })
		},
	}
	o.repoFlags(cmd)
	return cmd
}

func newRootSign(s cli.Streams) *cobra.Command {
	var o options
	var c signer.CosignOptions
	cmd := &cobra.Command{
		Use:   "sign",
		Short: "Add your signature to the root that waits for it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(s, &o, func(k *signer.Signer) (signer.Change, error) { return k.SignRoot(cmd.Context(), c) })
		},
	}
	o.repoFlags(cmd)
	idFlag(cmd, &c.ID)
	return cmd
}

func newRotate(s cli.Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Replace a key",
		Long: `Replace a key by a new one: a root adds the new key, something is published with it, and the next root
takes the old key out. At every instant boxes accept what is published. Where other signers are needed
in between it says so; then it goes on where it stopped when it is said again.`,
	}
	cmd.AddCommand(newRotateRelease(s), newRotateOnline(s))
	return cmd
}

func newRotateRelease(s cli.Streams) *cobra.Command {
	var o options
	agent := ""
	cmd := &cobra.Command{
		Use:   "release",
		Short: "Replace the release key",
		Long: `Replace your release key. All updates that are listed are signed again by the new key: look at the list
first, if the old key was stolen. Boxes that check only .sig need the new release.pub.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runSteps(s, &o, func(k *signer.Signer) (signer.Result, error) { return k.RotateRelease(cmd.Context(), agent) })
		},
	}
	o.repoFlags(cmd)
	cmd.Flags().StringVar(&agent, "agent", "", "the new key is `KEY` of the ssh-agent, ssh-agent:SHA256:…")
	return cmd
}

func newRotateOnline(s cli.Streams) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "online",
		Short: "Replace the online key",
		Long: `Replace the online key. Boxes forget the version numbers that the old key counted. A server on the
repository must get the new online.pem.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runSteps(s, &o, func(k *signer.Signer) (signer.Result, error) { return k.RotateOnline(cmd.Context()) })
		},
	}
	o.repoFlags(cmd)
	return cmd
}
