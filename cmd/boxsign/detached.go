package main

import (
	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/signer"
)

func newSign(s cli.Streams) *cobra.Command {
	var o options
	force := false
	cmd := &cobra.Command{
		Use:   "sign FILE",
		Short: "Sign an update beside itself, without a repository",
		Long: `Sign an update: FILE.sha256 and FILE.sig are written beside it, its checksum line and the detached
signature of that line. Files that say something else are never replaced.`,
		Example: `  boxsign sign --keys K opq-box-update-1550190683.tar.bz2`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return run(s, &o, func(k *signer.Signer) (signer.Detached, error) { return k.SignFile(cmd.Context(), args[0], force) })
		},
	}
	o.keyFlags(cmd)
	o.jsonFlag(cmd)
	forceFlag(cmd, &force)
	return cmd
}

func newVerify(s cli.Streams) *cobra.Command {
	var keyFiles []string
	var o options
	sigFile := ""
	cmd := &cobra.Command{
		Use:   "verify FILE",
		Short: "Verify an update by the signature beside it",
		Long: `Verify the archive FILE, of any size, by FILE.sig and a public key. The name of FILE counts: the signature
is over digest and name. Exit code 1 says that it is not what the key signed.`,
		Example: `  boxsign verify --key release.pub opq-box-update-1550190683.tar.bz2`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			result, err := signer.Verify(cmd.Context(), args[0], sigFile, keyFiles...)
			if err != nil {
				return err
			}
			return o.print(s, result)
		},
	}
	cmd.Flags().StringArrayVar(&keyFiles, "key", nil, "`FILE` with a public key that counts; one of several is enough")
	cmd.Flags().StringVar(&sigFile, "sig", "", "`FILE` with the signature (default FILE.sig)")
	o.jsonFlag(cmd)
	return cmd
}
