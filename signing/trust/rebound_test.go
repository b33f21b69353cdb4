package trust_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

// readers are a box, a mirror and a signer's own state, each with its own memory.
func readers(t *testing.T, w *world) []*box {
	t.Helper()
	b, m, s := newBox(t, w.repo.Root()), newBox(t, w.repo.Root()), newBox(t, w.repo.Root())
	m.cfg.DeferRoots = true
	m.reopen()
	return []*box{b, m, s}
}

// list publishes two with that content, signed by those keys, and takes it back.
func (w *world) list(content string, by ...*testworld.Signer) {
	w.t.Helper()
	e := w.edit()
	if err := e.Add(addition(w.t, two, []byte(content))); err != nil {
		w.t.Fatal(err)
	}
	w.publish(trust.Change{Targets: w.sign(e, by...)})
}

// boundForGood expects of readers, who see that two was withdrawn, that they refuse a list in which a signer who
// forgot its digest gives it a third. It returns what that list makes of the repository.
func (w *world) boundForGood(all []*box, by ...*testworld.Signer) *trust.Repository {
	w.t.Helper()
	for _, b := range all {
		b.must(w.dir, w.clock())
		b.reopen()
	}
	forgetful, err := w.repo.EditTargets(&trust.Ledger{}, 0, w.at)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := forgetful.Add(addition(w.t, two, []byte("a third"))); err != nil {
		w.t.Fatal(err)
	}
	next := w.next(trust.Change{Targets: w.sign(forgetful, by...)})
	for _, b := range all {
		wantErr(w.t, b.refresh(served(next), w.clock()), trust.ErrSecondDigest)
	}
	return next
}

func (w *world) takeBack(by ...*testworld.Signer) {
	w.t.Helper()
	e := w.edit()
	if err := e.Withdraw(name(w.t, two)); err != nil {
		w.t.Fatal(err)
	}
	w.publish(trust.Change{Targets: w.sign(e, by...)})
}

// dropRelease publishes a root without those release keys.
func (w *world) dropRelease(old ...*testworld.Signer) {
	w.t.Helper()
	w.newRoot(w.roots, func(e *trust.RootEdit) error {
		for _, s := range old {
			if err := e.RemoveKey(trust.RoleTargets, s.Public().ID()); err != nil {
				return err
			}
		}
		return nil
	})
}

// TestPoisonedName is a thief of the release key who lists an update under a name that is to come. Once the key is replaced
// the genuine one can be published under that name, which is told; and then never again another.
func TestPoisonedName(t *testing.T) {
	w := newWorld(t)
	w.add(one)
	all := readers(t, w)
	w.list("a thief's", w.releases...)
	poison, _ := w.repo.Release(name(t, two))
	for _, r := range all {
		wantListed(t, r.must(w.dir, w.clock()), one, two)
	}
	w.takeBack(w.releases...)
	old, fresh := w.releases[0], testworld.NewSigner("release new")
	w.newRoot(w.roots, func(e *trust.RootEdit) error { return e.AddKey(trust.RoleTargets, fresh.Public()) })
	w.publish(trust.Change{Targets: w.propose([]*testworld.Signer{fresh})})
	wantErr(t, w.edit().Add(addition(t, two, content(two))), trust.ErrSecondDigest)
	all[0].must(w.dir, w.clock())
	w.dropRelease(old)
	all[2].must(w.dir, w.clock())
	w.releases = []*testworld.Signer{fresh}
	w.state = reopened(t, w.dir)

	e := w.edit()
	if err := e.Add(addition(t, two, content(two))); err != nil {
		t.Fatal(err)
	}
	p := w.sign(e, fresh)
	for what, plan := range map[string]trust.Plan{"signer": e.Plan(), "origin": p.Plan()} {
		if len(plan.Rebound) != 1 || plan.Rebound[0].Was != poison.Digest() || !strings.HasPrefix(plan.Rebound[0].String(), two) {
			t.Errorf("%s: expected to be told of %s, got %v", what, two, plan.Rebound)
		}
	}
	wantErr(t, w.edit().Add(addition(t, one, []byte("another"))), trust.ErrSecondDigest) // it was listed again since
	w.publish(trust.Change{Targets: p})
	for i, r := range all {
		repo, err := r.state.Refresh(t.Context(), w.dir, w.clock())
		if err != nil {
			t.Fatal(i, err)
		}
		if told := r.state.Ledger().Rebound(repo); len(told) != 1 || told[0].Was != poison.Digest() {
			t.Errorf("reader %d: expected to be told of %s, got %v", i, two, told)
		}
		if err := r.state.Commit(repo); err != nil {
			t.Fatal(i, err)
		}
		if told := r.state.Ledger().Rebound(repo); len(told) != 0 {
			t.Errorf("reader %d: expected to be told once, got %v", i, told)
		}
	}

	// From now on it is bound for good, for who is withdrawn too and after a restart.
	w.takeBack(fresh)
	w.state = reopened(t, w.dir)
	wantErr(t, w.edit().Add(addition(t, two, []byte("a third"))), trust.ErrSecondDigest)
	next := w.boundForGood(all, fresh)

	// Without the file that says so, what is listed stays bound, and nothing is refused that was not.
	b := all[0]
	if err := os.Remove(filepath.Join(b.cfg.Dir, "3.ledger")); err != nil {
		t.Fatal(err)
	}
	b.reopen()
	if err := b.refresh(served(next), w.clock()); err != nil {
		t.Error(err)
	}
}

// TestNameOfAKeyBelowTheThreshold: a root that takes out fewer keys than could have signed a list lets no name go.
func TestNameOfAKeyBelowTheThreshold(t *testing.T) {
	w := newWorldOf(t, 3, 2)
	w.list("signed by all", w.releases...)
	w.takeBack(w.releases...)
	w.newRoot(w.roots, func(e *trust.RootEdit) error { return e.RemoveKey(trust.RoleTargets, w.releases[0].Public().ID()) })
	wantErr(t, w.edit().Add(addition(t, two, content(two))), trust.ErrSecondDigest)

	// The second one goes with a later root. Together they could have signed it.
	fresh := testworld.NewSigner("release new")
	w.newRoot(w.roots, func(e *trust.RootEdit) error { return e.AddKey(trust.RoleTargets, fresh.Public()) })
	w.publish(trust.Change{Targets: w.propose([]*testworld.Signer{w.releases[1], w.releases[2], fresh})})
	w.dropRelease(w.releases[1])
	w.list(string(content(two)), w.releases[2], fresh)
}

// TestListNumberCountedUp is a thief of release key and online key who uses up the numbers of lists, so that nobody can
// publish one. The repository is restored from before, both keys are replaced, and everybody goes on with lower numbers.
func TestListNumberCountedUp(t *testing.T) {
	w := newWorld(t)
	w.add(one)
	all := readers(t, w)
	backup := directory{Path: filepath.Join(testworld.TempDir(t), "backup")}
	if err := os.CopyFS(backup.Path, os.DirFS(w.dir.Path)); err != nil {
		t.Fatal(err)
	}
	e, err := w.repo.EditTargets(w.state.Ledger(), 1<<31-2, w.at)
	if err != nil {
		t.Fatal(err)
	}
	w.publish(trust.Change{Targets: w.sign(e, w.releases...)})
	for _, r := range all {
		r.must(w.dir, w.clock())
	}
	if _, err := w.repo.EditTargets(w.state.Ledger(), 0, w.at); err == nil || !strings.Contains(err.Error(), "restore the repository") {
		t.Fatalf("expected to be told what to do, got %v", err)
	}

	w.dir = backup
	w.state = reopened(t, backup)
	if w.repo, err = w.state.Current(); err != nil {
		t.Fatal(err)
	}
	old, fresh := w.releases[0], testworld.NewSigner("release new")
	w.newRoot(w.roots, func(e *trust.RootEdit) error { return e.AddKey(trust.RoleTargets, fresh.Public()) })
	w.publish(trust.Change{Targets: w.propose([]*testworld.Signer{fresh})})
	w.dropRelease(old)
	for _, r := range all {
		wantErr(t, r.refresh(w.dir, w.clock()), trust.ErrRollback) // the snapshot still counts
	}
	oldOnline, freshOnline := w.online[0], testworld.NewSigner("online new")
	w.newRoot(w.roots, func(e *trust.RootEdit) error { return addOnline(e, freshOnline) })
	w.online = []*testworld.Signer{freshOnline}
	w.publish(trust.Change{})
	w.newRoot(w.roots, func(e *trust.RootEdit) error { return removeOnline(e, oldOnline) })
	w.releases = []*testworld.Signer{fresh}
	w.add(two)
	for _, r := range all {
		repo := r.must(w.dir, w.clock())
		wantListed(t, repo, one, two)
		if got := repo.Version(trust.RoleTargets); got != 4 {
			t.Errorf("expected list 4, got %d", got)
		}
		r.reopen()
		w.at = w.at.Add(1)
		r.must(w.dir, w.clock())
	}
}
