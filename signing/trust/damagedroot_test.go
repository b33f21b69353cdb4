package trust_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

// newOnline publishes two roots: one with another online key beside the old one, and one without that.
func (w *world) newOnline(name string) {
	w.t.Helper()
	old, fresh := w.online[0], testworld.NewSigner(name)
	w.online = []*testworld.Signer{old, fresh}
	w.newRoot(w.roots, func(e *trust.RootEdit) error { return addOnline(e, fresh) })
	w.online = []*testworld.Signer{fresh}
	w.newRoot(w.roots, func(e *trust.RootEdit) error { return removeOnline(e, old) })
}

// TestDamagedRootForgetsNothing: once the roots are back that the disk damaged, the set that the box had guards against going
// back as before, although the root before the damaged one doesn't accept it.
func TestDamagedRootForgetsNothing(t *testing.T) {
	for what, served := range map[string]bool{"box": false, "mirror": true} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			b := newBox(t, w.repo.Root())
			b.cfg.DeferRoots = served
			b.reopen()
			w.newOnline("online 2")
			w.add(one)
			old := copyOf(t, w.dir)
			w.publish(trust.Change{})
			b.must(w.dir, w.clock())
			damageRoot(t, b, "2.root.json")
			b.reopen()
			if err := b.state.RewriteDamaged(); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				wantErr(t, b.refresh(old, w.clock()), trust.ErrRollback)
				b.reopen()
			}
			r := b.must(w.dir, w.clock())
			if got := r.Version(trust.RoleTimestamp); got != w.repo.Version(trust.RoleTimestamp) {
				t.Errorf("got timestamp %d", got)
			}
			if b.reopen(); len(b.state.Damage()) != 0 {
				t.Errorf("still damaged: %v", b.state.Damage())
			}
		})
	}
}

func damageRoot(t *testing.T, b *box, name string) {
	t.Helper()
	path := filepath.Join(b.cfg.Dir, name)
	if err := errors.Join(os.WriteFile(path, []byte("{"), 0o644), os.RemoveAll(path+".copy")); err != nil {
		t.Fatal(err)
	}
}

// TestDamagedRootLearnsNothing: what a root before the damaged one accepts, a thief may have listed.
func TestDamagedRootLearnsNothing(t *testing.T) {
	w := newWorld(t)
	w.add(one)
	b := newBox(t, w.repo.Root())
	w.list("a thief's", w.releases...)
	b.must(w.dir, w.clock())
	w.takeBack(w.releases...)
	old, fresh := w.releases[0], testworld.NewSigner("release new")
	w.newRoot(w.roots, func(e *trust.RootEdit) error { return e.AddKey(trust.RoleTargets, fresh.Public()) })
	w.publish(trust.Change{Targets: w.propose([]*testworld.Signer{fresh})})
	w.dropRelease(old)
	w.list("genuine", fresh)
	b.must(w.dir, w.clock())
	damageRoot(t, b, "2.root.json")
	b.reopen()
	if err := b.state.RewriteDamaged(); err != nil {
		t.Fatal(err)
	}
	b.must(w.dir, w.clock())
}

// TestDamagedRootTakesNoOther: of the roots after the damaged one those that are whole are known. Who has the keys of the root
// before can't bring others.
func TestDamagedRootTakesNoOther(t *testing.T) {
	w := newWorld(t)
	b := newBox(t, w.repo.Root())
	thief := *w
	thief.dir = directory{Path: filepath.Join(testworld.TempDir(t), "R")}
	if err := os.CopyFS(thief.dir.Path, os.DirFS(w.dir.Path)); err != nil {
		t.Fatal(err)
	}
	thief.state = reopened(t, thief.dir)
	old, fresh := w.roots[0], testworld.NewSigner("root new")
	w.newRoot([]*testworld.Signer{old, fresh}, func(e *trust.RootEdit) error {
		return errors.Join(e.AddKey(trust.RoleRoot, fresh.Public()), e.RemoveKey(trust.RoleRoot, old.Public().ID()))
	})
	w.newRoot([]*testworld.Signer{fresh}, nil)
	b.must(w.dir, w.clock())
	thief.newRoot(thief.roots, nil)
	partly := copyOf(t, thief.dir)
	thief.newRoot(thief.roots, nil)
	thief.newRoot(thief.roots, nil)

	damageRoot(t, b, "2.root.json")
	b.reopen()
	if b.refresh(partly, w.clock()) == nil {
		t.Error("a root below the newest one was accepted")
	}
	b.reopen()
	wantErr(t, b.refresh(thief.dir, w.clock()), trust.ErrFork)
	b.reopen()
	if r := b.must(w.dir, w.clock()); string(r.Root().Raw()) != string(w.repo.Root().Raw()) {
		t.Error("another root is trusted")
	}
}

// TestLostRootWithItsCopy: a root that is lost and has a copy is there.
func TestLostRootWithItsCopy(t *testing.T) {
	w := newWorld(t)
	w.newRoot(w.roots, nil)
	w.newRoot(w.roots, nil)
	if err := os.Remove(filepath.Join(w.dir.Path, "metadata", "3.root.json")); err != nil {
		t.Fatal(err)
	}
	s := reopened(t, w.dir)
	if got := s.Root().Version(); got != 3 || len(s.Damage()) != 1 {
		t.Errorf("expected root 3 and its damage, got root %d and %v", got, s.Damage())
	}
}

// TestDamagedTimestampOfABox: a box's store opens the metadata as a server does, which makes copies. When they lie there, what
// the box accepts later is in them too, so that a damaged timestamp does not bring the list of before back.
func TestDamagedTimestampOfABox(t *testing.T) {
	w := newWorld(t)
	w.add(one)
	b := newBox(t, w.repo.Root())
	b.must(w.dir, w.clock())
	inStore := b.cfg
	inStore.DeferRoots = true
	s, err := trust.Open(inStore)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.RewriteDamaged(); err != nil {
		t.Fatal(err)
	}
	old := copyOf(t, w.dir)
	w.add(two)
	b.must(w.dir, w.clock())
	if err := os.WriteFile(filepath.Join(b.cfg.Dir, trust.TimestampName), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	b.reopen()
	r, err := b.state.Current()
	if err != nil {
		t.Fatal(err)
	}
	wantListed(t, r, one, two)
	wantErr(t, b.refresh(old, w.clock()), trust.ErrRollback)
}
