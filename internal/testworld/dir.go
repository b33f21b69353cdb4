package testworld

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/openpowerquality/box-update-server/update"
)

// TempDir returns an empty directory that the end of the test removes; in memory where there is one:
// thousands of syncs take their time.
func TempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "testworld")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// Blocks returns the block list of an archive.
func Blocks(data []byte) update.Blocks {
	var h update.Hasher
	h.Write(data)
	_, blocks, _ := h.Result()
	return blocks
}

// Lingering ignores a connection of net/http that waits half a second before it is closed, so that the
// client can read the answer; it ends by itself.
func Lingering() goleak.Option {
	return goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait")
}
