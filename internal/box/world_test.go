package box

import (
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

// start is the time at which every story begins.
var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// newRepository returns a repository without an update, and the keys that sign lists and what is renewed.
func newRepository(t *testing.T) (repo *trust.Repository, release, online *testworld.Signer) {
	t.Helper()
	root, release, online := testworld.NewSigner("root"), testworld.NewSigner("release"), testworld.NewSigner("online")
	repo, err := trust.Init(t.Context(), start, trust.Setup{
		Root: trust.Holder{Keys: []keys.Public{root.Public()}}, Release: trust.Holder{Keys: []keys.Public{release.Public()}}, Online: online.Public(),
	}, root, release, online)
	check(t, err)
	return repo, release, online
}
