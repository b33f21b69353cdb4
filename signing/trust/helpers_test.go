package trust_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

var (
	day     = testworld.Start
	wantErr = testworld.WantErr
)

const hours24 = 24 * time.Hour

// world is an origin's directory, its present repository, and who holds which keys.
type world struct {
	t                     testing.TB
	dir                   directory
	state                 *trust.State
	repo                  *trust.Repository
	at                    time.Time
	roots, releases       []*testworld.Signer
	rootNeed, releaseNeed int
	online                []*testworld.Signer
}

// newWorld makes a repository with one key for each role.
func newWorld(t testing.TB) *world { return newWorldOf(t, 1, 1) }

// newWorldOf makes one with n root and release keys, of which need must sign.
func newWorldOf(t testing.TB, n, need int) *world {
	t.Helper()
	w := &world{t: t, at: day, rootNeed: need, releaseNeed: need, online: []*testworld.Signer{testworld.NewSigner("online")}}
	for i := range n {
		w.roots = append(w.roots, testworld.NewSigner(fmt.Sprintf("root %d", i)))
		w.releases = append(w.releases, testworld.NewSigner(fmt.Sprintf("release %d", i)))
	}
	w.dir = directory{Path: filepath.Join(testworld.TempDir(t), "R")}
	w.repo = testworld.Keyring{Roots: w.roots, Releases: w.releases, Online: w.online[0]}.Init(t, w.at, need)
	state, err := trust.Open(config(w.dir, w.repo.Raw(trust.RoleRoot)))
	if err == nil {
		err = state.Commit(w.repo)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.state = state
	return w
}

// config is that of an origin's state.
func config(d directory, pinned []byte) trust.Config {
	return trust.Config{FS: d.FS, Dir: filepath.Join(d.Path, "metadata"), Pinned: pinned, DeferRoots: true}
}

// reopened is an origin's state after a restart.
func reopened(t testing.TB, d directory) *trust.State {
	t.Helper()
	s, err := trust.Open(config(d, nil))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// verify reads the metadata of a directory and checks all that can be checked from a pinned root.
func verify(d directory, pinned []byte, c trust.Clock) (*trust.Repository, error) {
	s, err := trust.Open(config(d, pinned))
	if err != nil {
		return nil, err
	}
	r, err := s.Current()
	if err != nil {
		return nil, err
	}
	return r, errors.Join(r.Fresh(c), r.VerifyDetached())
}

// content is the archive of a name in these tests.
func content(name string) []byte { return []byte("archive of " + name + "\n") }

func name(t testing.TB, s string) update.Name {
	t.Helper()
	return testworld.Name(s)
}

// addition describes an archive of those bytes.
func addition(t testing.TB, n string, data []byte) trust.Addition {
	t.Helper()
	a := testworld.Addition(n, data)
	a.Unpacked = 2 * a.Length
	return a
}

func (w *world) edit() *trust.TargetsEdit {
	w.t.Helper()
	reserved, err := w.dir.reserved()
	if err != nil {
		w.t.Fatal(err)
	}
	e, err := w.repo.EditTargets(w.state.Ledger(), reserved, w.at)
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

// propose signs a list that has those updates too.
func (w *world) propose(by []*testworld.Signer, names ...string) *trust.Proposal {
	w.t.Helper()
	e := w.edit()
	for _, n := range names {
		if err := e.Add(addition(w.t, n, content(n))); err != nil {
			w.t.Fatal(err)
		}
	}
	return w.sign(e, by...)
}

func (w *world) sign(e *trust.TargetsEdit, by ...*testworld.Signer) *trust.Proposal {
	w.t.Helper()
	p, err := e.Sign(w.t.Context(), testworld.Signers(by...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// publish makes a complete proposal, or a renewal where there is none, the present repository.
func (w *world) publish(c trust.Change) {
	w.t.Helper()
	next := w.next(c)
	if err := w.state.Commit(next); err != nil {
		w.t.Fatal(err)
	}
	w.repo = next
}

func (w *world) next(c trust.Change) *trust.Repository {
	w.t.Helper()
	next, err := w.repo.Next(w.t.Context(), w.at, c, testworld.Signers(w.online...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	return next
}

// add publishes updates, signed by all release keys.
func (w *world) add(names ...string) {
	w.t.Helper()
	w.publish(trust.Change{Targets: w.propose(w.releases, names...)})
}

// newRoot publishes a root that those keys sign.
func (w *world) newRoot(by []*testworld.Signer, change func(*trust.RootEdit) error) {
	w.t.Helper()
	w.publish(trust.Change{Root: w.proposeRoot(by, change)})
}

func (w *world) proposeRoot(by []*testworld.Signer, change func(*trust.RootEdit) error) *trust.Proposal {
	w.t.Helper()
	return testworld.SignRoot(w.t, w.repo, w.at, by, change)
}

// clock is that of a box with the right time.
func (w *world) clock() trust.Clock { return trust.Clock{Now: w.at} }

// box is a client with a state of its own.
type box struct {
	t     testing.TB
	state *trust.State
	cfg   trust.Config
}

func newBox(t testing.TB, root *trust.Root) *box {
	t.Helper()
	b := &box{t: t, cfg: trust.Config{FS: disk.FS{}, Dir: filepath.Join(testworld.TempDir(t), "trusted"), Pinned: root.Raw()}}
	b.reopen()
	return b
}

// reopen is what a restart does.
func (b *box) reopen() {
	b.t.Helper()
	state, err := trust.Open(b.cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	b.state = state
}

// refresh checks and accepts what f offers.
func (b *box) refresh(f trust.Fetcher, c trust.Clock) error {
	b.t.Helper()
	r, err := b.state.Refresh(b.t.Context(), f, c)
	if err != nil {
		return err
	}
	return b.state.Commit(r)
}

func (b *box) must(f trust.Fetcher, c trust.Clock) *trust.Repository {
	b.t.Helper()
	if err := b.refresh(f, c); err != nil {
		b.t.Fatal(err)
	}
	r, err := b.state.Current()
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}
