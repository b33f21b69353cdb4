package main

import (
	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/signer"
	"github.com/openpowerquality/box-update-server/status"
)

func newStatus(s cli.Streams) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "status [DIR|URL]",
		Short: "Show who can sign, what expires and what waits",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(o.cutPlace(args)) > 0 {
				return status.Usagef("%s: expected the directory or URL of a repository", args[0])
			}
			return run(s, &o, func(k *signer.Signer) (signer.Status, error) { return k.Status(cmd.Context()) })
		},
	}
	o.readFlags(cmd)
	return cmd
}

func newVerifyRepo(s cli.Streams) *cobra.Command {
	var o options
	metadataOnly := false
	cmd := &cobra.Command{
		Use:   "verify-repo DIR|URL",
		Short: "Verify a whole repository from a root",
		Long: `Verify a repository as a box does, from a root that you trust: every root since, signatures, expiry, every
detached signature, and every archive. Exit code 1 says that something is wrong.`,
		Example: `  boxsign verify-repo --root 1.root.json R
  boxsign verify-repo --root 1.root.json http://127.0.0.1:8151`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.repo = args[0]
			return runSteps(s, &o, func(k *signer.Signer) (signer.Result, error) {
				verdict, err := k.VerifyRepository(cmd.Context(), !metadataOnly)
				if err != nil && len(verdict.Problems) == 0 {
					return nil, err // the error came before any archive was verified
				}
				return verdict, err
			})
		},
	}
	cmd.Flags().StringVar(&o.root, "root", "", "`FILE` with the root to trust, such as the 1.root.json that boxes have")
	cmd.Flags().BoolVar(&metadataOnly, "metadata-only", false, "don't read the archives")
	o.jsonFlag(cmd)
	return cmd
}
