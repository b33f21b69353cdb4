package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/cmd/internal/command"
	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/signer"
	"github.com/openpowerquality/box-update-server/status"
)

func newKeygen(s cli.Streams) *cobra.Command {
	agent := ""
	cmd := newCommand(s, &cobra.Command{
		Use:   "keygen ROLE",
		Short: "Make a key",
		Long: `Make a key for ROLE: root, release or online.

The private key is encrypted under a passphrase. Only the online key is not, because a server uses it without a
person. With --agent, boxsign makes no key: it notes the name of a key that stays in the ssh-agent.`,
		Example: `  boxsign keygen --keys K release`,
		Args:    cobra.ExactArgs(1),
	}, func(o *options, cmd *cobra.Command) {
		o.keysFlags(cmd)
		o.passphraseFlag(cmd, "the key")
		o.weakFlag(cmd)
	}, func(ctx context.Context, k *signer.Signer, args []string) (signer.Result, error) {
		return k.Keygen(ctx, args[0], agent)
	})
	agentFlag(cmd, &agent)
	return cmd
}

func newKeyCommands(s cli.Streams) *cobra.Command {
	cmd := &cobra.Command{Use: "key", Short: "Show and export keys"}
	show := newCommand(s, &cobra.Command{Use: "show", Short: "Show your keys", Example: "  boxsign key show --keys K", Args: cobra.NoArgs}, (*options).keysFlags,
		func(_ context.Context, k *signer.Signer, _ []string) (signer.Result, error) { return k.ShowKeys() })
	cmd.AddCommand(show, newKeyExport(s))
	return cmd
}

func newKeyExport(s cli.Streams) *cobra.Command {
	var o options
	out := ""
	cmd := &cobra.Command{
		Use:     "export ROLE",
		Short:   "Print a public key",
		Long:    `Print the public key of ROLE (root, release or online) as PEM, which openssl reads.`,
		Example: `  boxsign key export release > release.pub`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, k, end := o.signer(cmd.Context(), s)
			defer end()
			public, err := k.PublicKey(args[0])
			switch {
			case err != nil:
				return err
			case out != "":
				return s.Disk.CreateFile(out, public.PEM(), 0o644)
			case o.json:
				return s.JSON(map[string]string{"id": string(public.ID()), "pem": string(public.PEM())})
			}
			_, err = s.Out.Write(public.PEM())
			return err
		},
	}
	o.keysFlags(cmd)
	cmd.Flags().StringVarP(&out, "output", "o", "", "write to `FILE`")
	return cmd
}

func newBackup(s cli.Streams, sealCost int) *cobra.Command {
	var o options
	var b signer.BackupOptions
	cmd := &cobra.Command{
		Use:   "backup -o FILE",
		Short: "Write your keys and trusted state into one encrypted file",
		Long: `Write your keys and the metadata that they trust into one file. The file is encrypted under a passphrase of its
own: boxsign asks for it twice, or takes it from --passphrase-file or $` + backupVariable + `. The keys in it keep
their own passphrases, which you still need after a restore.

With --print the backup is text for paper, which you can type or scan again; each line has a checksum. It holds the
root key alone, or the keys of --role, and no trusted state.

The file has the format of age (age-encryption.org): age -d FILE shows its contents.`,
		Example: `  boxsign backup --keys K -o keys.backup
  boxsign backup --keys K --print > root-key.txt`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if b.Out == "" && !b.Paper {
				return status.WithHint(status.Usagef("no output: expected -o FILE or --print"), "name a file with -o FILE, or print text for paper with --print")
			}
			if b.Out == "" && o.json {
				return status.Usagef("--json: expected -o FILE too, because --print alone prints the text of the backup")
			}
			if b.Out == "" {
				if err := command.RefuseQuiet(cmd, "the backup"); err != nil {
					return err
				}
			}
			ctx, k, end := o.signer(cmd.Context(), s)
			k.SealCost, b.Passphrase = sealCost, k.Passphrase
			defer end()
			contents, raw, err := k.Backup(ctx, b)
			if err != nil {
				return err
			}
			if b.Out == "" {
				_, err := s.Out.Write(raw)
				return err
			}
			return o.print(s, contents)
		},
	}
	o.backupFlags(cmd)
	o.weakFlag(cmd)
	f := cmd.Flags()
	f.StringVarP(&b.Out, "output", "o", "", "write to `FILE`, which must not exist")
	f.BoolVar(&b.Paper, "print", false, "make text for paper")
	f.StringSliceVar(&b.Roles, "role", nil, "only the keys of `ROLE` (root, release or online), and no trusted state")
	return cmd
}

func newRestore(s cli.Streams) *cobra.Command {
	return newCommand(s, &cobra.Command{
		Use:   "restore FILE",
		Short: "Restore your keys and trusted state from a backup",
		Long: `Restore your keys and trusted state from a backup: a file of boxsign backup, or text that was typed from paper.
boxsign verifies the whole backup before it writes anything, and never overwrites a file. A key that exists must be
the same as in the backup. A trusted state that is newer than that of the backup stays.`,
		Example: `  boxsign restore --keys K keys.backup
  boxsign restore --dry-run keys.backup`,
		Args: cobra.ExactArgs(1),
	}, func(o *options, cmd *cobra.Command) {
		o.backupFlags(cmd)
		cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "show what is in the backup, and write nothing")
	}, func(ctx context.Context, k *signer.Signer, args []string) (signer.Result, error) {
		return k.Restore(ctx, args[0], k.Passphrase)
	})
}
