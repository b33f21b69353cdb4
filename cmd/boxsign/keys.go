package main

import (
	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/signer"
	"github.com/openpowerquality/box-update-server/status"
)

func newKeygen(s cli.Streams) *cobra.Command {
	var o options
	agent := ""
	cmd := &cobra.Command{
		Use:   "keygen ROLE",
		Short: "Make a key",
		Long: `Make a key for ROLE: root, release or online.

The private key is encrypted under a passphrase, except that of online, which a server uses without a
person. With --agent nothing is made: the key stays in the ssh-agent, and its name is noted.`,
		Example: `  boxsign keygen --keys K release`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return run(s, &o, func(k *signer.Signer) (signer.KeyList, error) { return k.Keygen(cmd.Context(), args[0], agent) })
		},
	}
	o.keysFlag(cmd)
	cmd.Flags().StringVar(&o.passphraseFile, "passphrase-file", "", "read the passphrase of the key in `FILE`")
	cmd.Flags().StringVar(&agent, "agent", "", "use `KEY` of the ssh-agent, ssh-agent:SHA256:…")
	o.jsonFlag(cmd)
	return cmd
}

func newKeyCommands(s cli.Streams) *cobra.Command {
	cmd := &cobra.Command{Use: "key", Short: "Show and export keys"}
	cmd.AddCommand(newKeyShow(s), newKeyExport(s))
	return cmd
}

func newKeyShow(s cli.Streams) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show your keys",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return run(s, &o, (*signer.Signer).ShowKeys)
		},
	}
	o.keysFlag(cmd)
	o.jsonFlag(cmd)
	return cmd
}

func newKeyExport(s cli.Streams) *cobra.Command {
	var o options
	out := ""
	cmd := &cobra.Command{
		Use:     "export ROLE",
		Short:   "Print a public key",
		Long:    `Print the public key of ROLE, root, release or online, as PEM, which openssl reads.`,
		Example: `  boxsign key export release > release.pub`,
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			k, end := o.signer(s)
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
	o.keysFlag(cmd)
	o.jsonFlag(cmd)
	cmd.Flags().StringVarP(&out, "output", "o", "", "write to `FILE`")
	return cmd
}

func newBackup(s cli.Streams, sealCost int) *cobra.Command {
	var o options
	var b signer.BackupOptions
	cmd := &cobra.Command{
		Use:   "backup -o FILE",
		Short: "Write your keys and trusted state into one encrypted file",
		Long: `Write your keys and what they trust into one file, encrypted under a passphrase of its own, which is asked
for twice or comes from --passphrase-file or $` + backupVariable + `. Keys stay in it as they are: whoever restores them still
needs their own passphrase.

With --print it is text for paper, the root key alone unless --role says otherwise, that can be typed or
scanned again; each line has a checksum. The trusted state is not printed.

The file is one of age (age-encryption.org): age -d FILE shows what is in it.`,
		Example: `  boxsign backup --keys K -o keys.backup
  boxsign backup --keys K --print > root-key.txt`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if b.Out == "" && !b.Paper {
				return status.WithHint(status.Usagef("where to?"), "name a file with -o FILE, or say --print")
			}
			if b.Out == "" && o.json {
				return status.Usagef("--json: the text itself is the result; with -o FILE it goes there")
			}
			b.Passphrase = o.passphrase(s, backupVariable)
			k, end := o.signer(s)
			k.SealCost = sealCost
			defer end()
			contents, raw, err := k.Backup(cmd.Context(), b)
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
	o.keysFlag(cmd)
	o.backupFlags(cmd)
	f := cmd.Flags()
	f.StringVarP(&b.Out, "output", "o", "", "write to `FILE`, which must not exist")
	f.BoolVar(&b.Paper, "print", false, "make text for paper")
	f.StringSliceVar(&b.Roles, "role", nil, "only the keys of `ROLE`, root, release or online, and no trusted state")
	return cmd
}

func newRestore(s cli.Streams) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Get your keys and trusted state back from a backup",
		Long: `Get your keys and trusted state back from a backup, as a file of boxsign backup or typed from paper. All of it
is verified before anything is written. Nothing is ever overwritten: a key that is there must be the same, and a
trusted state that is there is kept where it is newer.`,
		Example: `  boxsign restore --keys K keys.backup
  boxsign restore --dry-run keys.backup`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return run(s, &o, func(k *signer.Signer) (signer.Contents, error) {
				return k.Restore(cmd.Context(), args[0], o.passphrase(s, backupVariable))
			})
		},
	}
	o.keysFlag(cmd)
	o.backupFlags(cmd)
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "show what is in the backup, and write nothing")
	return cmd
}
