package testworld

import "testing"

// Unraced is the first line of a test that does one thing some hundred times, at every step or bit, one after
// another: the race detector takes five times as long for it, and sees nothing that it does not see in the
// other tests of the package. There it is skipped; make test runs it by itself, without the detector.
func Unraced(t *testing.T) {
	t.Helper()
	if raced {
		t.Skip("runs without the race detector: see .ci/test")
	}
}
