package main

import (
	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/cmd/internal/command"
	"github.com/openpowerquality/box-update-server/internal/cli"
)

// The linker sets the version, and in RFC 3339 when the source was committed.
var (
	version = "unknown"
	built   = ""
)

// newRoot returns the command boxsign. sealCost is the SealCost of the signer, 0 for the default.
func newRoot(s cli.Streams, sealCost int) *cobra.Command {
	root := &cobra.Command{
		Use:   "boxsign",
		Short: "Make, sign and publish the updates of a fleet of boxes",
		Long: `Boxsign makes, signs and publishes the updates of a fleet of boxes.

Environment: ` + keysVariable + ` and ` + repoVariable + ` stand for --keys and --repo. ` + passphraseVariable + ` is the
passphrase of key files, and ` + backupVariable + ` that of backups; without them boxsign asks on the
terminal. ` + agentVariable + ` is the socket of an ssh-agent.

Exit codes: 0 done, 1 failed or refused, 2 usage. After 1 and 2 nothing was signed or published, except what a
message names.`,
	}
	root.AddCommand(
		newBuild(s), newInspect(s), newDiff(s), newBootstrap(s),
		newKeygen(s), newKeyCommands(s),
		newSign(s), newVerify(s),
		newInit(s), newAdd(s), newPublish(s), newWithdraw(s), newRolloutCommands(s), newCosign(s), newAbort(s), newRenew(s),
		newRootCommands(s), newRotate(s), newStatus(s), newVerifyRepo(s),
		newBackup(s, sealCost), newRestore(s),
	)
	command.AddQuiet(root, "inspect", "show", "export", "status")
	command.AddVersion(root, s, version, command.BuildTime(built))
	return root
}
