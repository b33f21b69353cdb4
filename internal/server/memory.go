package server

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// How far the heap may grow between two collections: by so many bytes, within bounds in percent of
// what is live. With few clients that is rare collecting, which makes small answers faster; with
// ten thousand it is little room, which keeps the process small.
const (
	room         = 16 << 20
	leastPercent = 25
	mostPercent  = 400
)

// onceMemory is how many bytes of memory a single sync takes before it collects more often.
const onceMemory = 48 << 20

// paceEvery is how soon the pace follows what is live.
const paceEvery = time.Second

// paceCollector keeps the pace of the garbage collector right until ctx ends.
func paceCollector(ctx context.Context) {
	tick := time.NewTicker(paceEvery)
	defer tick.Stop()
	for {
		samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}}
		metrics.Read(samples)
		live := max(1<<20, samples[0].Value.Uint64()+samples[1].Value.Uint64())
		debug.SetGCPercent(int(min(mostPercent, max(leastPercent, 100*room/live))))
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
