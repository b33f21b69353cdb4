//go:build !docs

// Boxsign makes, signs and publishes the updates of a fleet. It runs on the computers of the signers.
package main

import (
	"os"

	"github.com/openpowerquality/box-update-server/cmd/internal/command"
	"github.com/openpowerquality/box-update-server/internal/cli"
)

func main() { os.Exit(runProcess(cli.System(), 0)) }

// runProcess runs the command line of this process and returns the exit code. sealCost is as in newRoot.
func runProcess(s cli.Streams, sealCost int) int {
	ctx, stop := command.UntilSignal()
	defer stop()
	return command.Run(ctx, "boxsign", newRoot(s, sealCost), os.Args[1:], s)
}
