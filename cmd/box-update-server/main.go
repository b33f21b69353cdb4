//go:build !docs

// Command box-update-server serves software updates to boxes, by name and by SHA-256 digest.
//
// Without arguments it takes its settings from the environment variable BOX_UPDATE_SERVER_SETTINGS.
// SIGTERM lets running downloads end, up to a limit; SIGHUP reads the settings again.
package main

import (
	"os"

	"github.com/openpowerquality/box-update-server/cmd/internal/command"
	"github.com/openpowerquality/box-update-server/internal/cli"
)

func main() {
	// Signals stay caught until the process is gone: one that comes last must not change the exit code.
	ctx, _ := command.UntilSignal()
	streams := cli.System()
	os.Exit(command.Run(ctx, "box-update-server", newRoot(streams), os.Args[1:], streams))
}
