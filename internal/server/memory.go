package server

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
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

// sentinel is garbage that tells when it was collected. A pointer in it keeps the allocator from
// packing it together with others.
type sentinel struct{ _ *byte }

// paceCollector sets the pace of the garbage collector, now and after each collection.
func paceCollector() { resetPercent(&sentinel{}) }

func resetPercent(*sentinel) {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}}
	metrics.Read(samples)
	live := max(1<<20, samples[0].Value.Uint64()+samples[1].Value.Uint64())
	debug.SetGCPercent(int(min(mostPercent, max(leastPercent, 100*room/live))))
	runtime.SetFinalizer(&sentinel{}, resetPercent)
}
