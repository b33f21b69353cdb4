package trust_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

// TestTwoSignersAtOnce has the second one see the other's change and sign again.
func TestTwoSignersAtOnce(t *testing.T) {
	w := newWorldOf(t, 2, 1)
	base := w.repo
	first := w.propose(w.releases[:1], one)
	second := w.propose(w.releases[1:], two)
	w.publish(trust.Change{Targets: first})
	_, err := w.repo.CheckTargets(w.state.Ledger(), 0, second.Raw(), w.at)
	wantErr(t, err, trust.ErrConflict)
	again := w.propose(w.releases[1:], two)
	if p := again.Plan(); len(p.Added) != 1 || p.Added[0].Name().String() != two || p.From != 2 || p.To != 3 {
		t.Errorf("expected the plan to add %s to list 2, got %+v", two, p)
	}
	w.publish(trust.Change{Targets: again})
	wantListed(t, w.repo, one, two)

	// Replayed, the first is no news.
	_, err = w.repo.CheckTargets(w.state.Ledger(), 0, first.Raw(), w.at)
	wantErr(t, err, trust.ErrConflict)
	wantErr(t, w.state.Commit(base), trust.ErrRollback)
}

func TestCheckTargetsRefuses(t *testing.T) {
	w := newWorldOf(t, 2, 1)
	p := w.propose(w.releases[:1], one)
	signed := signedPart(t, p.Raw())
	rel := p.Releases()[0]
	sig, _ := rel.Signature(w.releases[0].Public().ID())
	flipped := sig
	flipped[5] ^= 1
	garbage := `"updates":{"` + one + `":"` + flipped.String() + `"}}`
	cases := []struct {
		name string
		raw  []byte
		want error
	}{
		{"as it was", p.Raw(), nil},
		{"by a stranger", resigned(signed, testworld.NewSigner("stranger")), trust.ErrThreshold},
		{"by the online key", resigned(signed, w.online[0]), trust.ErrThreshold},
		{"by nobody", resigned(signed), trust.ErrThreshold},
		{"with a stranger's signature beside", resigned(signed, w.releases[0], testworld.NewSigner("stranger")), trust.ErrThreshold},
		{"detached signature by another archive", resigned(strings.Replace(signed, sig.String(), flipped.String(), 1), w.releases[0]), trust.ErrThreshold},
		{"no detached signature", resigned(strings.Replace(signed, `"`+string(w.releases[0].Public().ID())+`":"`+sig.String()+`"`, "", 1), w.releases[0]), trust.ErrThreshold},
		{"cosigner with garbage", []byte(strings.Replace(string(resigned(signed, w.releases[0], w.releases[1])), `"}],"signed"`, `",`+garbage+`],"signed"`, 1)), trust.ErrThreshold},
		{"number of what is published", resigned(replace(t, `"version":2}`, `"version":1}`)(signed), w.releases[0]), trust.ErrConflict},
		{"number after the next", resigned(replace(t, `"version":2}`, `"version":3}`)(signed), w.releases[0]), trust.ErrConflict},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := w.repo.CheckTargets(w.state.Ledger(), 0, c.raw, w.at)
			if c.want == nil && err != nil {
				t.Error(err)
			} else if c.want != nil {
				wantErr(t, err, c.want)
			}
		})
	}
}

func TestCheckRootRefuses(t *testing.T) {
	w := newWorld(t)
	p := w.proposeRoot(w.roots, nil)
	signed := signedPart(t, p.Raw())
	for what, c := range map[string]struct {
		raw  []byte
		want error
	}{
		"by a stranger":         {resigned(signed, testworld.NewSigner("stranger")), trust.ErrThreshold},
		"by the release key":    {resigned(signed, w.releases[0]), trust.ErrThreshold},
		"the present number":    {resigned(replace(t, `"version":2}`, `"version":1}`)(signed), w.roots[0]), trust.ErrConflict},
		"number after the next": {resigned(replace(t, `"version":2}`, `"version":3}`)(signed), w.roots[0]), trust.ErrConflict},
	} {
		_, err := w.repo.CheckRoot(c.raw, w.at)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: expected %v, got %v", what, c.want, err)
		}
	}
	e := w.repo.EditRoot(w.at)
	_, err := e.Sign(t.Context(), w.releases[0])
	wantErr(t, err, trust.ErrKey)
	wantErr(t, e.RemoveKey(trust.RoleRoot, w.releases[0].Public().ID()), trust.ErrKey)
	if err := e.AddKey(trust.RoleRoot, w.roots[0].Public()); err == nil {
		t.Error("expected a key that is there to be refused")
	}
	if err := e.SetThreshold(trust.RoleTargets, 2); err != nil {
		t.Fatal(err)
	}
	_, err = e.Plan()
	wantErr(t, err, trust.ErrMalformed) // two of one
	if err := e.AddKey(trust.RoleTargets, testworld.NewSigner("second").Public()); err != nil {
		t.Fatal(err)
	}
	plan, err := e.Plan()
	if err != nil {
		t.Fatal(err)
	}
	if h := plan.Holders; len(h) != 1 || h[0].Role != trust.RoleTargets || len(h[0].AddedKeys) != 1 || h[0].ToThreshold != 2 {
		t.Errorf("expected one role with a new key and a threshold of 2, got %+v", h)
	}
}

// TestNewRootKeys replaces a root key: the old and the new threshold sign.
func TestNewRootKeys(t *testing.T) {
	w := newWorldOf(t, 2, 2)
	b := newBox(t, w.repo.Root())
	fresh := testworld.NewSigner("root new")
	change := func(e *trust.RootEdit) error {
		return errors.Join(e.AddKey(trust.RoleRoot, fresh.Public()), e.RemoveKey(trust.RoleRoot, w.roots[1].Public().ID()))
	}
	p := w.proposeRoot([]*testworld.Signer{w.roots[0], fresh}, change)
	if n := p.Needs(); p.Complete() || n[0].Met() || !n[1].Met() {
		t.Fatalf("expected the present root to want another signature, got %+v", n)
	}
	p, err := p.Cosign(t.Context(), w.roots[1])
	if err != nil || !p.Complete() {
		t.Fatalf("expected a complete root, got %v", err)
	}
	w.publish(trust.Change{Root: p})
	if got := b.must(w.dir, w.clock()).Root().Version(); got != 2 {
		t.Errorf("expected root 2, got %d", got)
	}
	lone := w.proposeRoot([]*testworld.Signer{w.roots[0]}, nil)
	_, err = lone.Cosign(t.Context(), w.roots[1])
	wantErr(t, err, trust.ErrKey)
}

// TestServedStateKeepsWhatItServes is a mirror: a root that it finds is stored with the set that fits.
func TestServedStateKeepsWhatItServes(t *testing.T) {
	w := newWorld(t)
	w.add(one)
	m := newBox(t, w.repo.Root())
	m.cfg.DeferRoots = true
	m.reopen()
	m.must(w.dir, w.clock())
	old, fresh := w.online[0], testworld.NewSigner("online new")
	w.newRoot(w.roots, func(e *trust.RootEdit) error { return addOnline(e, fresh) })
	w.online = []*testworld.Signer{fresh}
	w.publish(trust.Change{})
	w.newRoot(w.roots, func(e *trust.RootEdit) error { return removeOnline(e, old) })
	w.add(two)

	next, err := m.state.Refresh(t.Context(), w.dir, w.clock())
	if err != nil {
		t.Fatal(err)
	}
	m.reopen() // before the archives are there
	r, err := m.state.Current()
	if err != nil || m.state.Root().Version() != 1 {
		t.Fatalf("expected the old set under root 1, got root %d, %v", m.state.Root().Version(), err)
	}
	wantListed(t, r, one)
	if err := m.state.Commit(next); err != nil {
		t.Fatal(err)
	}
	m.reopen()
	wantListed(t, m.must(w.dir, w.clock()), one, two)
	if got := m.state.Root().Version(); got != 3 {
		t.Errorf("expected root 3, got %d", got)
	}
}

// stubborn is a signer whose signatures don't fit.
type stubborn struct{ *testworld.Signer }

func (s stubborn) Sign(ctx context.Context, msg []byte) ([64]byte, error) {
	sig, err := s.Signer.Sign(ctx, msg)
	sig[0] ^= 1
	return sig, err
}

func TestFaultySignerIsNoticed(t *testing.T) {
	w := newWorld(t)
	if _, err := w.edit().Sign(t.Context(), stubborn{w.releases[0]}); err == nil {
		t.Error("expected a signature that doesn't fit to be noticed")
	}
	if _, err := w.repo.Next(t.Context(), w.at, trust.Change{}, stubborn{w.online[0]}); err == nil {
		t.Error("expected a signature that doesn't fit to be noticed")
	}
	if _, err := w.repo.Next(t.Context(), w.at, trust.Change{}, w.releases[0]); !errors.Is(err, trust.ErrThreshold) {
		t.Errorf("expected %v, got %v", trust.ErrThreshold, err)
	}
}

func TestOpenWithoutARepository(t *testing.T) {
	dir := filepath.Join(testworld.TempDir(t), "none")
	_, err := trust.Open(trust.Config{Dir: dir})
	wantErr(t, err, trust.ErrNotFound)
	w := newWorld(t)
	s, err := trust.Open(trust.Config{Dir: dir, Pinned: w.repo.Raw(trust.RoleRoot)})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Current()
	wantErr(t, err, trust.ErrNone)
	w.at = w.at.Add(time.Minute)
	foreign := newWorldOf(t, 2, 1)
	wantErr(t, s.Commit(foreign.repo), trust.ErrFork)
}

// TestCommitOfForeignRoots offers a state a repository whose roots begin after its own.
func TestCommitOfForeignRoots(t *testing.T) {
	w := newWorld(t)
	w.newRoot(w.roots, nil)
	b := newBox(t, w.repo.Root()) // pinned at root 2
	r := b.must(w.dir, w.clock())
	other := testworld.NewKeyring("another ").Init(t, w.at, 1)
	s, err := trust.Open(trust.Config{Dir: testworld.TempDir(t), Pinned: other.Raw(trust.RoleRoot)})
	if err != nil {
		t.Fatal(err)
	}
	wantErr(t, s.Commit(r), trust.ErrThreshold)
}
