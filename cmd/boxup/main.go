//go:build !docs

// Boxup runs on a box: it asks mirrors that nobody has to trust for updates, verifies and installs them.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/openpowerquality/box-update-server/cmd/internal/command"
)

// memoryLimit is from which size on, in bytes, the collector runs more often: the device has 512 MB for everything.
// GOMEMLIMIT overrides it.
const memoryLimit = 24 << 20

func main() { os.Exit(run(system())) }

// run runs the command line of this process and returns the exit code.
func run(p program) int {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return command.Run(ctx, "boxup", newRoot(&p), os.Args[1:], p.streams)
}
