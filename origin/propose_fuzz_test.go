package origin_test

import (
	"slices"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

// FuzzPropose sends anything as a list and as a root: nothing but what a key signed changes a file.
func FuzzPropose(f *testing.F) {
	w := newWorldOf(f, 2, 2)
	f.Add([]byte("junk"))
	f.Add(w.s.Repository().Raw(trust.RoleTargets))
	f.Add(w.s.Root().Raw())
	other := newWorld(f) // its keys are no stranger's: the first of both
	f.Add(other.list(other.releases, one).Raw())
	f.Add(other.list([]*testworld.Signer{other.releases[0]}, one, two).Raw())
	f.Fuzz(func(t *testing.T, raw []byte) {
		w.t = t
		for _, role := range []trust.Role{trust.RoleTargets, trust.RoleRoot} {
			before := w.files()
			out, err := w.Propose(t.Context(), role, raw)
			if err != nil && !slices.Equal(before, w.files()) {
				t.Errorf("%v, and yet the files are %v, after %v", err, w.files(), before)
			}
			if err == nil && out.ID.IsZero() {
				t.Errorf("no ID: %+v", out)
			}
		}
	})
}
