package trust_test

import (
	"testing"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

// TestSwappedArchive is a thief of one release key of two who offers the published list with another archive under a name that
// it has. No cosigner signs that, whatever his own ledger remembers: it may end before the release keys were replaced, so
// that names may be bound anew, or be empty, as at the first contact.
func TestSwappedArchive(t *testing.T) {
	w := newWorldOf(t, 3, 2)
	w.add(one)
	stale := newBox(t, w.repo.Root())
	stale.must(w.dir, w.clock())

	fresh := []*testworld.Signer{testworld.NewSigner("release new 0"), testworld.NewSigner("release new 1")}
	w.newRoot(w.roots, func(e *trust.RootEdit) error {
		if err := e.AddKey(trust.RoleTargets, fresh[0].Public()); err != nil {
			return err
		}
		return e.AddKey(trust.RoleTargets, fresh[1].Public())
	})
	w.publish(trust.Change{Targets: w.propose(fresh)})
	w.dropRelease(w.releases[0], w.releases[1])

	swapped := otherList(t, w, fresh[0], addition(t, one, []byte("a thief's")))
	for what, known := range map[string]*trust.Ledger{"stale": stale.state.Ledger(), "empty": {}} {
		base, err := stale.state.Refresh(t.Context(), w.dir, w.clock())
		if err != nil {
			t.Fatal(err)
		}
		t.Run(what, func(t *testing.T) {
			p, err := base.CheckTargets(known, 0, swapped, w.at)
			if err == nil {
				t.Errorf("the plan is %+v", p.Plan())
			}
			wantErr(t, err, trust.ErrSecondDigest)

			e, err := base.EditTargets(known, 0, w.at)
			if err != nil {
				t.Fatal(err)
			}
			if err := e.Withdraw(name(t, one)); err != nil {
				t.Fatal(err)
			}
			wantErr(t, e.Add(addition(t, one, []byte("another"))), trust.ErrSecondDigest)
			if err := e.Add(addition(t, one, content(one))); err != nil {
				t.Errorf("with its own digest: %v", err)
			}
		})
	}
}

// otherList returns the list that follows the published one, of one update alone, as whoever has that key makes it with a program
// of their own.
func otherList(t *testing.T, w *world, by *testworld.Signer, a trust.Addition) []byte {
	t.Helper()
	own, err := trust.Init(t.Context(), w.at, trust.Setup{
		Root: trust.Holder{Keys: testworld.Publics(by)}, Release: trust.Holder{Keys: testworld.Publics(by)}, Online: by.Public(),
	}, by)
	if err != nil {
		t.Fatal(err)
	}
	e, err := own.EditTargets(&trust.Ledger{}, w.repo.Version(trust.RoleTargets), w.at)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Add(a); err != nil {
		t.Fatal(err)
	}
	return w.sign(e, by).Raw()
}
