//go:build !docs

// Boxup keeps a box up to date: it asks untrusted mirrors for signed updates, verifies them and installs them.
package main

import (
	"os"
	"runtime/debug"

	"github.com/openpowerquality/box-update-server/cmd/internal/command"
)

// memoryLimit is the soft memory limit of the process in bytes: near it, the garbage collector runs more often. A box has
// 512 MB for everything. GOMEMLIMIT overrides the limit.
const memoryLimit = 24 << 20

func main() { os.Exit(run(system())) }

// run runs the command line of this process and returns the exit code.
func run(p program) int {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	ctx, stop := command.UntilSignal()
	defer stop()
	return command.Run(ctx, "boxup", newRoot(&p), os.Args[1:], p.streams)
}
