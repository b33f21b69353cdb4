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

// paceEvery is the time between two adjustments.
const paceEvery = time.Second

// paceCollector adjusts the garbage collector to the live heap until ctx ends.
func paceCollector(ctx context.Context) {
	for {
		samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}}
		metrics.Read(samples)
		live := max(1<<20, samples[0].Value.Uint64()+samples[1].Value.Uint64())
		debug.SetGCPercent(int(min(mostPercent, max(leastPercent, 100*room/live))))
		if pace.Sleep(ctx, paceEvery) != nil {
			return
		}
	}
}
