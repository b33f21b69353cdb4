package store

import (
	"os"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/testworld"
)

// TestCrashBetweenModeAndName leaves a part with the mode of an archive, which its owner can't open for
// writing.
func TestCrashBetweenModeAndName(t *testing.T) {
	if testworld.AsNobody(t) {
		return
	}
	o, s, next, in := arriving(t, large, 0, 1)
	mustClose(t, in)
	mustDo(t, os.Chmod(in.partial.partPath(), 0o444))
	in = mustIngest(t, s, release(t, next, large))
	defer mustClose(t, in)
	wantMissing(t, in)
	mustDo(t, in.Commit(t.Context()))
	mustPublish(t, s, next)
	o.check(s)
}
