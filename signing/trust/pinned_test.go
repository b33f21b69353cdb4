package trust_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

// TestNewerRootPinned: a reader who had a thief's name, and is then given a newer root to trust from, takes the genuine update under
// that name as every other one does; whether it had seen the roots in between or not, and whether they are still there.
func TestNewerRootPinned(t *testing.T) {
	w := newWorld(t)
	w.add(one)
	all := map[string]*box{}
	for _, what := range []string{"saw all", "saw the first root alone", "lost a root", "lost all older roots"} {
		all[what] = newBox(t, w.repo.Root())
	}
	unreplaced := newBox(t, w.repo.Root())
	w.list("a thief's", w.releases...)
	for _, b := range all {
		b.must(w.dir, w.clock())
	}
	unreplaced.must(w.dir, w.clock())
	w.takeBack(w.releases...)
	old, fresh := w.releases[0], testworld.NewSigner("release new")
	w.newRoot(w.roots, func(e *trust.RootEdit) error { return e.AddKey(trust.RoleTargets, fresh.Public()) })
	w.publish(trust.Change{Targets: w.propose([]*testworld.Signer{fresh})})
	unreplaced.must(w.dir, w.clock())
	second := w.repo.Root().Raw()
	w.dropRelease(old)
	w.releases = []*testworld.Signer{fresh}
	w.state = reopened(t, w.dir)
	for what, b := range all {
		if what != "saw the first root alone" {
			b.must(w.dir, w.clock())
		}
		b.cfg.Pinned = w.repo.Root().Raw()
		for _, name := range map[string][]string{"lost a root": {"2.root.json"}, "lost all older roots": {"1.root.json", "2.root.json"}}[what] {
			if err := os.Remove(filepath.Join(b.cfg.Dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.list("genuine", fresh)
	for what, b := range all {
		b.reopen()
		if err := b.refresh(w.dir, w.clock()); err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		// Then it is bound for good.
		b.reopen()
		if err := b.refresh(w.dir, w.clock()); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	w.takeBack(fresh)
	w.boundForGood(slices.Collect(maps.Values(all)), fresh)

	// A newer root that replaced nothing lets no name go.
	unreplaced.cfg.Pinned = second
	unreplaced.reopen()
	r, err := unreplaced.state.Current()
	if err != nil {
		t.Fatal(err)
	}
	e, err := r.EditTargets(unreplaced.state.Ledger(), 0, w.at)
	if err != nil {
		t.Fatal(err)
	}
	wantErr(t, e.Add(addition(t, two, []byte("a third"))), trust.ErrSecondDigest)
}
