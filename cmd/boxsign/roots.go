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
		Short: "Show or change which keys count, and how many must sign",
		Long: `Show or change which keys count for a repository, and how many must sign. Each
command but show makes the next root. The thresholds of the present root and of
the next one must sign it; until then it waits for boxsign root sign.`,
	}
	cmd.AddCommand(
		newRepoCommand(s, &cobra.Command{
			Use: "add-key ROLE FILE", Short: "Give a role to a key", Args: cobra.ExactArgs(2),
			Long:    `Let the public key in FILE sign for ROLE: root, release or online.`,
			Example: `  boxsign root add-key release other/release.pub`,
		}, func(ctx context.Context, k *signer.Signer, args []string) (signer.Result, error) {
			return k.AddKey(ctx, args[0], args[1])
		}),
		newRepoCommand(s, &cobra.Command{
			Use: "remove-key ROLE KEY", Short: "Take a role from a key", Args: cobra.ExactArgs(2),
			Long:    `Take ROLE from KEY, which is the ID, the fingerprint or the public key file of a key.`,
			Example: `  boxsign root remove-key release old/release.pub`,
		}, func(ctx context.Context, k *signer.Signer, args []string) (signer.Result, error) {
			return k.RemoveKey(ctx, args[0], args[1])
		}),
		newThreshold(s),
		newRepoCommand(s, &cobra.Command{
			Use: "renew", Short: "Make the root valid for another year", Args: cobra.NoArgs,
			Long:    `Make the next root without a change, valid for another year. The present root may have expired.`,
			Example: `  boxsign root renew --keys K --repo R`,
		}, func(ctx context.Context, k *signer.Signer, _ []string) (signer.Result, error) {
			return k.RenewRoot(ctx)
		}),
		newRootSign(s), newRootShow(s),
	)
	return cmd
}

func newRootShow(s cli.Streams) *cobra.Command {
	return newCommand(s, &cobra.Command{
		Use:   "show [FILE|DIR|URL]",
		Short: "Show a root: its fingerprint, expiry, keys and thresholds",
		Long: `Show the newest root of a repository, or the root in FILE, which needs neither
keys nor a repository. The root fingerprint is that of 1.root.json, as boxup
init shows it: it stays the same when keys are replaced.`,
		Example: `  boxsign root show 1.root.json
  boxsign root show --keys K http://127.0.0.1:8151`,
		Args: cobra.MaximumNArgs(1),
	}, (*options).readFlags, func(ctx context.Context, k *signer.Signer, args []string) (signer.Result, error) {
		file := ""
		if args = cutPlace(k, args); len(args) > 0 {
			file = args[0]
		}
		return k.ShowRoot(ctx, file)
	})
}

func newThreshold(s cli.Streams) *cobra.Command {
	return newRepoCommand(s, &cobra.Command{
		Use:   "threshold ROLE N",
		Short: "Set how many keys must sign",
		Long: `Set how many keys of ROLE, root or release, must sign.

Before lists can need N signatures, the published list must have N. If it has fewer, this command makes a new list
without a change, which waits for boxsign cosign. With three or more signers, all but the last cosign with --hold.
Then run this command again.`,
		Example: `  boxsign root threshold release 2`,
		Args:    cobra.ExactArgs(2),
	}, func(ctx context.Context, k *signer.Signer, args []string) (signer.Result, error) {
		n, err := strconv.Atoi(args[1])
		if err != nil || n < 1 {
			return nil, status.Usagef("threshold %q: expected a number from 1", args[1])
		}
		return k.Threshold(ctx, args[0], n)
	})
}

func newRootSign(s cli.Streams) *cobra.Command {
	var c signer.CosignOptions
	cmd := newRepoCommand(s, &cobra.Command{
		Use:     "sign",
		Short:   "Add your signature to the root that waits for it",
		Example: `  boxsign root sign --keys K2 --repo http://127.0.0.1:8151`,
		Args:    cobra.NoArgs,
	}, func(ctx context.Context, k *signer.Signer, _ []string) (signer.Result, error) {
		return k.SignRoot(ctx, c)
	})
	idFlag(cmd, &c.ID)
	return cmd
}

func newRotate(s cli.Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Replace a key",
		Long: `Replace a key by a new one: publish a root that adds the new key, publish something that the new key signed, then
publish a root without the old key. Boxes accept what is published at every moment. If other signers must sign in
between, the command says so and stops. Run it again to continue.`,
	}
	agent := ""
	release := newCommand(s, &cobra.Command{
		Use:   "release",
		Short: "Replace the release key",
		Long: `Replace your release key. The new key signs all listed updates again: check the list first if the old key was stolen.
Boxes that check only .sig need the new release.pub.`,
		Example: `  boxsign rotate release --keys K --repo R`,
		Args:    cobra.NoArgs,
	}, (*options).makeFlags, func(ctx context.Context, k *signer.Signer, _ []string) (signer.Result, error) {
		return k.RotateRelease(ctx, agent)
	})
	agentFlag(release, &agent)
	cmd.AddCommand(release, newRepoCommand(s, &cobra.Command{
		Use:   "online",
		Short: "Replace the online key",
		Long: `Replace the online key. Boxes forget the version numbers that the old key counted. A server on the repository needs
the new online.pem.`,
		Example: `  boxsign rotate online --keys K --repo R`,
		Args:    cobra.NoArgs,
	}, func(ctx context.Context, k *signer.Signer, _ []string) (signer.Result, error) {
		return k.RotateOnline(ctx)
	}))
	return cmd
}
