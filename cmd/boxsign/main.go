//go:build !docs

// Boxsign makes, signs and publishes the updates of a fleet, on the machine of whoever releases them.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/openpowerquality/box-update-server/cmd/internal/command"
	"github.com/openpowerquality/box-update-server/internal/cli"
)

func main() { os.Exit(runProcess(cli.System())) }

// runProcess runs the command line of this process and returns the exit code.
func runProcess(s cli.Streams) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return command.Run(ctx, "boxsign", newRoot(s), os.Args[1:], s)
}
