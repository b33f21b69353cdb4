package main

import (
	"os"
	"runtime/debug"
)

// How often the collector runs: seldom in what is over soon, often in what takes long, as downloads and
// installations do, and the more often the further the program is beyond memoryLimit, in bytes. The device
// has 512 MB for everything. GOGC and GOMEMLIMIT override this.
const (
	percentShort = 400
	percentLong  = 30
	memoryLimit  = 24 << 20
)

func paceCollector(percent int) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}
