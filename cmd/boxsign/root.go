package main

import (
	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/cmd/internal/cli"
)

func newRoot(s cli.Streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "boxsign",
		Short: "Make the updates of a fleet of boxes",
		Long: `Boxsign makes the updates of a fleet of boxes.

Exit codes: 0 done, 1 failed, 2 usage.`,
	}
	root.AddCommand(newBuild(s), newInspect(s))
	return root
}
