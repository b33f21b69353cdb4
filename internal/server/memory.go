package server

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/openpowerquality/box-update-server/internal/pace"
)

// How far the heap may grow between two collections: by so many bytes, within bounds in percent of what is live. With few
// clients collections are rare, so small answers are faster; with ten thousand clients the process stays small.
const (
	room         = 16 << 20
	leastPercent = 25
	mostPercent  = 400
)

// onceMemory is how many bytes of memory a single sync uses before it collects more often.
const onceMemory = 48 << 20

// paceEvery is the time between two adjustments. It is short because much may become live at once, and until the next
// adjustment the percentage that suited a small heap lets a large one grow fivefold.
const paceEvery = 20 * time.Millisecond

// paceCollector adjusts the garbage collector to the live heap until ctx ends.
func paceCollector(ctx context.Context) {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}}
	for percent := uint64(0); ; {
		metrics.Read(samples)
		live := max(1<<20, samples[0].Value.Uint64()+samples[1].Value.Uint64())
		if next := min(mostPercent, max(leastPercent, 100*room/live)); next != percent {
			debug.SetGCPercent(int(next)) // stops the world
			percent = next
		}
		if pace.Sleep(ctx, paceEvery) != nil {
			return
		}
	}
}
