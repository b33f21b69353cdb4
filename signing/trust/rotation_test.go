package trust_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

func addOnline(e *trust.RootEdit, s *testworld.Signer) error {
	return errors.Join(e.AddKey(trust.RoleSnapshot, s.Public()), e.AddKey(trust.RoleTimestamp, s.Public()))
}

func removeOnline(e *trust.RootEdit, s *testworld.Signer) error {
	return errors.Join(e.RemoveKey(trust.RoleSnapshot, s.Public().ID()), e.RemoveKey(trust.RoleTimestamp, s.Public().ID()))
}

func TestTwoOfThree(t *testing.T) {
	w := newWorldOf(t, 3, 2)
	b := newBox(t, w.repo.Root())

	p := w.propose(w.releases[:1], one)
	if n := p.Needs()[0]; p.Complete() || len(n.Have) != 1 || n.Threshold != 2 || len(n.Missing) != 2 {
		t.Fatalf("expected 1 of 2 signatures, got %+v", n)
	}
	if _, err := w.repo.Next(t.Context(), w.at, trust.Change{Targets: p}, w.online[0]); !errors.Is(err, trust.ErrThreshold) {
		t.Fatalf("expected %v, got %v", trust.ErrThreshold, err)
	}
	// The first signer leaves it in the directory, the second finds it there.
	if err := w.dir.savePending(p); err != nil {
		t.Fatal(err)
	}
	pending, err := w.dir.pending(w.repo, w.state.Ledger(), w.at)
	if err != nil || len(pending) != 1 {
		t.Fatalf("expected one proposal, got %d, %v", len(pending), err)
	}
	if _, err := pending[0].Cosign(t.Context(), testworld.NewSigner("stranger")); !errors.Is(err, trust.ErrKey) {
		t.Fatalf("expected %v, got %v", trust.ErrKey, err)
	}
	p, err = pending[0].Cosign(t.Context(), w.releases[2])
	if err != nil || !p.Complete() {
		t.Fatalf("expected a complete proposal, got %v", err)
	}
	w.publish(trust.Change{Targets: p})
	rel, _ := b.must(w.dir, w.clock()).Release(name(t, one))
	if sigs := rel.Signatures(); len(sigs) != 2 || sigs[0].Key != w.releases[0].Public().ID() || sigs[1].Key != w.releases[2].Public().ID() {
		t.Errorf("expected the detached signatures of both, got %v", sigs)
	}
	for _, s := range []*testworld.Signer{w.releases[0], w.releases[2]} {
		sig, _ := rel.Signature(s.Public().ID())
		if _, err := signing.Open(rel.Digest(), rel.Name(), sig, s.Public()); err != nil {
			t.Error(err)
		}
	}
	if pending, _ = w.dir.pending(w.repo, w.state.Ledger(), w.at); len(pending) != 0 {
		t.Error("expected no proposal to be left")
	}

	// The next list keeps the cosigner's detached signature.
	w.publish(trust.Change{Targets: w.propose(w.releases[1:], two)})
	rel, _ = b.must(w.dir, w.clock()).Release(name(t, one))
	if len(rel.Signatures()) != 2 {
		t.Errorf("expected both detached signatures to stay, got %v", rel.Signatures())
	}

	// A root needs two as well.
	r := w.proposeRoot(w.roots[:1], nil)
	if r.Complete() {
		t.Fatal("expected one root key not to be enough")
	}
	if r, err = r.Cosign(t.Context(), w.roots[1]); err != nil || !r.Complete() {
		t.Fatalf("expected a complete root, got %v", err)
	}
	w.publish(trust.Change{Root: r})
	if got := b.must(w.dir, w.clock()).Root().Version(); got != 2 {
		t.Errorf("expected root 2, got %d", got)
	}
}

func TestMergeOfTwoCopies(t *testing.T) {
	w := newWorldOf(t, 3, 3)
	p := w.propose(w.releases[:1], one)
	a, errA := p.Cosign(t.Context(), w.releases[1])
	b, errB := p.Cosign(t.Context(), w.releases[2])
	if errA != nil || errB != nil || a.Complete() || b.Complete() {
		t.Fatalf("expected two of three each, got %v, %v", errA, errB)
	}
	both, err := a.Merge(b)
	if err != nil || !both.Complete() {
		t.Fatalf("expected a complete proposal, got %v", err)
	}
	w.publish(trust.Change{Targets: both})

	other := w.propose(w.releases[:1], two)
	w.at = w.at.Add(time.Minute)
	if _, err := other.Merge(w.propose(w.releases[1:2], three)); !errors.Is(err, trust.ErrConflict) {
		t.Errorf("expected %v, got %v", trust.ErrConflict, err)
	}
}

func TestReleaseKeyRotated(t *testing.T) {
	w := newWorld(t)
	w.add(one)
	b := newBox(t, w.repo.Root())
	b.must(w.dir, w.clock())

	old, fresh := w.releases[0], testworld.NewSigner("release new")
	drop := func(e *trust.RootEdit) error { return e.RemoveKey(trust.RoleTargets, old.Public().ID()) }
	// In one step the list that is out would be accepted by nobody.
	e := w.repo.EditRoot(w.at)
	if err := errors.Join(e.AddKey(trust.RoleTargets, fresh.Public()), drop(e)); err != nil {
		t.Fatal(err)
	}
	_, err := e.Sign(t.Context(), w.roots[0])
	wantErr(t, err, trust.ErrStranded)

	w.newRoot(w.roots, func(e *trust.RootEdit) error { return e.AddKey(trust.RoleTargets, fresh.Public()) })
	w.publish(trust.Change{Targets: w.propose([]*testworld.Signer{fresh}, two)})
	b.must(w.dir, w.clock())
	w.newRoot(w.roots, drop)
	wantListed(t, b.must(w.dir, w.clock()), one, two)

	edit := w.edit()
	_, err = edit.Sign(t.Context(), old)
	wantErr(t, err, trust.ErrKey)

	// Detached signatures by the old key alone are made again by the new one.
	w.publish(trust.Change{Targets: w.propose([]*testworld.Signer{fresh}, three)})
	rel, _ := b.must(w.dir, w.clock()).Release(name(t, one))
	if sigs := rel.Signatures(); len(sigs) != 1 || sigs[0].Key != fresh.Public().ID() {
		t.Errorf("expected a detached signature by the new key alone, got %v", sigs)
	}
	if err := w.repo.VerifyDetached(); err != nil {
		t.Error(err)
	}
}

func TestProposalByARemovedKeyIsRefused(t *testing.T) {
	w := newWorldOf(t, 2, 1)
	w.publish(trust.Change{Targets: w.propose(w.releases[1:], one)})
	stale := w.propose(w.releases[:1], two) // made while the key still counted
	w.newRoot(w.roots[:1], func(e *trust.RootEdit) error {
		return e.RemoveKey(trust.RoleTargets, w.releases[0].Public().ID())
	})
	_, err := w.repo.CheckTargets(w.state.Ledger(), 0, stale.Raw(), w.at)
	wantErr(t, err, trust.ErrThreshold)
	_, err = w.repo.Next(t.Context(), w.at, trust.Change{Targets: stale}, w.online[0])
	wantErr(t, err, trust.ErrConflict)
}

func TestOldBaseOfferedToTheSigner(t *testing.T) {
	w := newWorld(t)
	old := copyOf(t, w.dir)
	own := newBox(t, w.repo.Root()) // beside the signer's keys
	w.add(one)
	if err := own.state.Commit(w.repo); err != nil {
		t.Fatal(err)
	}
	own.reopen()
	wantErr(t, own.refresh(old, trust.Clock{Now: w.at, AcceptExpired: true}), trust.ErrRollback)
	own.must(w.dir, trust.Clock{Now: w.at, AcceptExpired: true})
}

func TestSecondDigest(t *testing.T) {
	w := newWorld(t)
	w.add(one, two)
	b := newBox(t, w.repo.Root())
	b.must(w.dir, w.clock())
	e := w.edit()
	wantErr(t, e.Add(addition(t, one, []byte("another"))), trust.ErrSecondDigest)
	if err := e.Withdraw(name(t, one)); err != nil {
		t.Fatal(err)
	}
	wantErr(t, e.Add(addition(t, one, []byte("another"))), trust.ErrSecondDigest)
	w.publish(trust.Change{Targets: w.sign(e, w.releases...)})
	b.must(w.dir, w.clock())

	// A signer, a server and a box remember it each on their own.
	w.state = reopened(t, w.dir)
	wantErr(t, w.edit().Add(addition(t, one, []byte("another"))), trust.ErrSecondDigest)
	forgetful, err := w.repo.EditTargets(&trust.Ledger{}, 0, w.at)
	if err != nil {
		t.Fatal(err)
	}
	if err := forgetful.Add(addition(t, one, []byte("another"))); err != nil {
		t.Fatal(err)
	}
	p := w.sign(forgetful, w.releases...)
	_, err = w.repo.CheckTargets(w.state.Ledger(), 0, p.Raw(), w.at)
	wantErr(t, err, trust.ErrSecondDigest)
	next := w.next(trust.Change{Targets: p})
	b.reopen()
	wantErr(t, b.refresh(served(next), w.clock()), trust.ErrSecondDigest)
	wantErr(t, b.state.Commit(next), trust.ErrSecondDigest)

	// The same digest again is no second one.
	w.add(one)
	wantListed(t, b.must(w.dir, w.clock()), one, two)
}

func TestAbortGetsAHigherNumber(t *testing.T) {
	w := newWorldOf(t, 2, 2)
	p := w.propose(w.releases[:1], one)
	if err := w.dir.savePending(p); err != nil {
		t.Fatal(err)
	}
	q := w.propose(w.releases, two)
	if p.Version() != 2 || q.Version() != 3 {
		t.Fatalf("expected lists 2 and 3, got %d and %d", p.Version(), q.Version())
	}
	w.publish(trust.Change{Targets: q})
	late, err := p.Cosign(t.Context(), w.releases[1])
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.repo.CheckTargets(w.state.Ledger(), 0, late.Raw(), w.at)
	wantErr(t, err, trust.ErrConflict)
}

// TestRootNeedsBothThresholds offers a box roots that satisfy one of the two alone.
func TestRootNeedsBothThresholds(t *testing.T) {
	w := newWorldOf(t, 2, 2)
	a, b := testworld.NewSigner("root new a"), testworld.NewSigner("root new b")
	swap := func(drop, add *testworld.Signer) func(e *trust.RootEdit) error {
		return func(e *trust.RootEdit) error {
			return errors.Join(e.AddKey(trust.RoleRoot, add.Public()), e.RemoveKey(trust.RoleRoot, drop.Public().ID()))
		}
	}
	own := w.proposeRoot([]*testworld.Signer{w.roots[0], a}, swap(w.roots[1], a))
	old := w.proposeRoot(w.roots, func(e *trust.RootEdit) error {
		return errors.Join(swap(w.roots[1], a)(e), swap(w.roots[0], b)(e))
	})
	for what, p := range map[string]*trust.Proposal{"its own alone": own, "that of the root before alone": old} {
		f := copyOf(t, w.dir)
		f.data["2.root.json"] = p.Raw()
		if err := newBox(t, w.repo.Root()).refresh(f, w.clock()); !errors.Is(err, trust.ErrThreshold) {
			t.Errorf("%s: expected %v, got %v", what, trust.ErrThreshold, err)
		}
	}
}

// TestRootKeepsWhatItDoesNotKnow: fields of a later version of the standard outlive an edit by this one.
func TestRootKeepsWhatItDoesNotKnow(t *testing.T) {
	w := newWorld(t)
	signed := signedPart(t, w.repo.Raw(trust.RoleRoot))
	signed = replace(t, `"version":1}`, `"version":2,"x":{"y":[1]}}`)(replace(t, `"threshold":1}`, `"threshold":1,"x_role":"kept"}`)(signed))
	p, err := w.repo.CheckRoot(resigned(signed, w.roots[0]), w.at)
	if err != nil {
		t.Fatal(err)
	}
	w.publish(trust.Change{Root: p})
	w.newRoot(w.roots, func(e *trust.RootEdit) error {
		return e.AddKey(trust.RoleTargets, testworld.NewSigner("another").Public())
	})
	for _, kept := range []string{`"x":{"y":[1]}`, `"threshold":1,"x_role":"kept"}`, `"version":3,`} {
		if !strings.Contains(string(w.repo.Raw(trust.RoleRoot)), kept) {
			t.Errorf("expected root 3 to have %s: %s", kept, w.repo.Raw(trust.RoleRoot))
		}
	}
}

// TestFileOfAnotherRole: what is offered in the place of another file is called what it is.
func TestFileOfAnotherRole(t *testing.T) {
	w := newWorld(t)
	f := copyOf(t, w.dir)
	f.data[trust.TimestampName] = f.data["1.targets.json"]
	err := newBox(t, w.repo.Root()).refresh(f, w.clock())
	if want := "timestamp: malformed metadata: expected a file of the role timestamp, got one of \"targets\""; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	_, err = trust.ParseRoot(f.data["1.snapshot.json"])
	if want := "root: malformed metadata: expected a file of the role root, got one of \"snapshot\""; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestUnknownFieldsBeforeTheRole: canonical JSON puts some fields of a later version before _type, and they are kept and
// ignored like all others.
func TestUnknownFieldsBeforeTheRole(t *testing.T) {
	w := newWorld(t)
	w.add(one)
	for _, field := range []string{"-x", ".x", "0x", "9.x-y"} {
		before := replace(t, `{"_type"`, `{"`+field+`":[1],"_type"`)
		b := newBox(t, w.repo.Root())
		wantListed(t, b.must(forgery{before, before, before}.of(t, w), w.clock()), one)

		next := replace(t, `"version":1}`, `"version":2}`)(before(signedPart(t, w.repo.Raw(trust.RoleRoot))))
		p, err := w.repo.CheckRoot(resigned(next, w.roots[0]), w.at)
		if err != nil || p.Version() != 2 {
			t.Errorf("%s in a root: got %v", field, err)
		}
		other := replace(t, `"_type":"targets"`, `"_type":"snapshot"`)
		err = newBox(t, w.repo.Root()).refresh(forgery{targets: func(s string) string { return other(before(s)) }}.of(t, w), w.clock())
		if wantErr(t, err, trust.ErrMalformed); !strings.Contains(err.Error(), `expected a file of the role targets, got one of "snapshot"`) {
			t.Errorf("got %v", err)
		}
	}
	err := newBox(t, w.repo.Root()).refresh(forgery{targets: replace(t, `"_type":"targets",`, ``)}.of(t, w), w.clock())
	wantErr(t, err, trust.ErrMalformed)
}
