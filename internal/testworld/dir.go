package testworld

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/openpowerquality/box-update-server/update"
)

// TempDir returns an empty directory, which is removed at the end of the test. It is in memory if the system has
// /dev/shm, because thousands of syncs on a disk are slow.
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

// Lingering makes goleak ignore connections that a net/http server keeps for half a second before it closes them, so
// that the client can read the answer. Their goroutines end by themselves.
func Lingering() goleak.Option {
	return goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait")
}
