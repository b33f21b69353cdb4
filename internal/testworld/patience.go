package testworld

import (
	"testing"
	"time"
)

// Patience is how long a test waits for a real process, peer or disk. It is so long that only broken code reaches it,
// however busy the machine is. No test checks that something takes less time.
const Patience = 3 * time.Minute

// Await waits until done reports true, which a peer, a process or the kernel brings about. It fails the test after
// Patience.
func Await(t testing.TB, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(Patience); !done(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain: %s", Patience, what)
		}
	}
}
