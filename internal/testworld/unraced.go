package testworld

import "testing"

// Unraced skips a test under the race detector. It is called first in tests that do one thing some hundred times in
// sequence, at every step or bit: the detector makes them five times slower, and finds nothing there that it does not
// find in the other tests of the package. make test runs them separately, without the detector.
func Unraced(t *testing.T) {
	t.Helper()
	if raced {
		t.Skip("runs without the race detector: see .ci/test")
	}
}
