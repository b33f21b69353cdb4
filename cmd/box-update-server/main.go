// Command box-update-server serves software updates to boxes, by name and by SHA-256 digest.
//
// Without arguments it takes its settings from the environment variable BOX_UPDATE_SERVER_SETTINGS.
// SIGTERM lets running downloads end, up to a limit; SIGHUP reads the settings again.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/openpowerquality/box-update-server/cmd/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	streams := cli.System()
	code := cli.Run(ctx, "box-update-server", newRoot(streams), os.Args[1:], streams)
	// Signals stay caught to the very end: one that comes now must not change the exit code.
	defer stop()
	os.Exit(code)
}
