package box

import (
	"testing"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

var (
	start = testworld.Start
	check = testworld.Must
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// newRepository returns a repository without an update, and the keys that sign lists and what is renewed.
func newRepository(t *testing.T) (repo *trust.Repository, release, online *testworld.Signer) {
	t.Helper()
	k := testworld.NewKeyring("")
	return k.Init(t, start, 1), k.Releases[0], k.Online
}
