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
		Long: `Make, sign and publish the updates of a fleet of boxes.

Exit codes: 0 done, 1 failed or refused, 2 usage, 130 interrupted by Ctrl-C. After all but 0, nothing was signed or
published except what a message names.`,
		Example: "  boxsign publish opq-box-update-1550190683.tar.bz2 http://127.0.0.1:8151",
	}
	command.Add(root, "Make updates", newBuild(s), newInspect(s), newDiff(s), newBootstrap(s), newSign(s), newVerify(s))
	command.Add(root, "Publish them", newInit(s), newAdd(s), newPublish(s), newWithdraw(s), newRolloutCommands(s), newCosign(s),
		newAbort(s), newRenew(s))
	command.Add(root, "Look", newStatus(s), newLs(s), newVerifyRepo(s))
	command.Add(root, "Keys", newKeygen(s), newKeyCommands(s), newRootCommands(s), newRotate(s), newBackup(s, sealCost), newRestore(s))
	command.AddQuiet(root, "inspect", "diff", "show", "export", "status", "ls")
	command.AddVersion(root, s, version, command.BuildTime(built))
	return root
}
