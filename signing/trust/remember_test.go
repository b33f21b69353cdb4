package trust_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

// newMirror is a client that others read, with the set that w has now.
func newMirror(t testing.TB, w *world) (*box, directory) {
	t.Helper()
	d := directory{Path: filepath.Join(testworld.TempDir(t), "M")}
	b := &box{t: t, cfg: config(d, read(t, filepath.Join(w.dir.Path, "metadata", "1.root.json")))}
	b.reopen()
	b.must(w.dir, w.clock())
	return b, d
}

// look is what a mirror does before it has the archives.
func (b *box) look(f trust.Fetcher, c trust.Clock) (*trust.Repository, error) {
	b.t.Helper()
	seen, err := b.state.Verify(b.t.Context(), f, c)
	return seen.Repository, errors.Join(err, b.state.Remember(seen))
}

func without(f *files, name string) *files {
	delete(f.data, name)
	return f
}

// Each file counts once it is verified, whether the rest of its set can be had or not (TUF 1.0, 5.4 to 5.6).
func TestVerifiedFilesCountAlone(t *testing.T) {
	w := newWorld(t)
	w.add(one)
	old := copyOf(t, w.dir)
	plain, served := newBox(t, w.repo.Root()), &box{}
	plain.must(w.dir, w.clock())
	served, dir := newMirror(t, w)
	w.add(two)
	for _, lost := range []string{"3.snapshot.json", "3.targets.json"} {
		for what, b := range map[string]*box{"a box": plain, "a mirror": served} {
			_, err := b.look(without(copyOf(t, w.dir), lost), w.clock())
			wantErr(t, err, trust.ErrNotFound)
			b.reopen()
			if r, err := b.state.Current(); err != nil || r.Version(trust.RoleTimestamp) != 2 {
				t.Errorf("%s without %s: expected the set before to stay, got %v", what, lost, err)
			}
			_, err = b.look(old, w.clock())
			wantErr(t, err, trust.ErrRollback)
		}
	}
	if _, err := verify(dir, nil, w.clock()); err != nil {
		t.Errorf("what is served: %v", err)
	}
	// A mirror that has no archives yet serves the old set, and remembers the whole new one.
	if _, err := served.look(w.dir, w.clock()); err != nil {
		t.Fatal(err)
	}
	// What is damaged counts as missing: never for another thing.
	for _, name := range []string{"timestamp.json", "snapshot.json", "targets.json"} {
		path := filepath.Join(served.cfg.Dir, "remembered", name)
		whole := read(t, path)
		for i := 0; i < len(whole); i += 97 {
			whole[i] ^= 4
			if err := os.WriteFile(path, whole, 0o600); err != nil {
				t.Fatal(err)
			}
			served.reopen()
			whole[i] ^= 4
		}
	}
	for _, b := range []*box{plain, served} {
		wantListed(t, b.must(w.dir, w.clock()), one, two)
		left, err := os.ReadDir(filepath.Join(b.cfg.Dir, "remembered"))
		if err != nil || len(left) != 0 {
			t.Errorf("expected nothing to be remembered beside the set, got %v, %v", left, err)
		}
		b.reopen()
		_, err = b.look(old, w.clock())
		wantErr(t, err, trust.ErrRollback)
	}
}

// A timestamp whose set nobody has, made by a thief of the online key, keeps out neither the genuine one of the
// same number nor, once a root took the key away, one of a lower number.
func TestTimestampWithoutASetLocksNobodyOut(t *testing.T) {
	w := newWorld(t)
	b := newBox(t, w.repo.Root())
	b.must(w.dir, w.clock())
	w.add(one)
	other := replace(t, `"issued":"2026-03-01T12:00:00Z"`, `"issued":"2026-03-01T12:00:01Z"`)
	same := forgery{snapshot: other}.of(t, w)
	wantErr(t, b.refresh(without(same, "2.snapshot.json"), w.clock()), trust.ErrNotFound)
	b.reopen()
	wantListed(t, b.must(w.dir, w.clock()), one)

	far := forgery{snapshot: other, timestamp: func(s string) string {
		return strings.TrimSuffix(s, `"version":2}`) + `"version":2147483647}`
	}}.of(t, w)
	far.data["2.snapshot.json"] = []byte("{}")
	if err := b.refresh(far, w.clock()); err == nil {
		t.Fatal("expected the forged set to be refused")
	}
	b.reopen()
	wantErr(t, b.refresh(w.dir, w.clock()), trust.ErrRollback)
	old, fresh := w.online[0], testworld.NewSigner("online new")
	w.newRoot(w.roots, func(e *trust.RootEdit) error { return addOnline(e, fresh) })
	w.online = []*testworld.Signer{fresh}
	w.publish(trust.Change{})
	w.newRoot(w.roots, func(e *trust.RootEdit) error { return removeOnline(e, old) })
	wantListed(t, b.must(w.dir, w.clock()), one)
}

// A root is looked for once a day although the timestamp stays the same, and counts although the next root, or
// what would follow below it, is bad. What a mirror serves stays a set with its root.
func TestRootCountsAlone(t *testing.T) {
	w := newWorld(t)
	w.add(one)
	b, dir := newMirror(t, w)
	f := copyOf(t, w.dir)
	signed := signedPart(t, w.repo.Raw(trust.RoleRoot))
	f.data["2.root.json"] = resigned(replace(t, `"version":1}`, `"version":2}`)(signed), w.roots[0])
	later := trust.Clock{Now: w.at.Add(hours24)}

	f.data["3.root.json"] = []byte("{}")
	_, err := b.look(f, later)
	wantErr(t, err, trust.ErrMalformed)
	b.reopen()
	served, err := verify(dir, nil, later)
	if b.state.Root().Version() != 2 || err != nil || served.Version(trust.RoleRoot) != 1 {
		t.Errorf("expected root 2 to count and root 1 to be served, got root %d, %v", b.state.Root().Version(), err)
	}
	delete(f.data, "3.root.json")
	r := b.must(f, later)
	b.reopen()
	if again, err := b.state.Current(); err != nil || r.Version(trust.RoleRoot) != 2 || again.Version(trust.RoleRoot) != 2 || r.Version(trust.RoleTimestamp) != 2 {
		t.Errorf("expected the same timestamp under root 2, got %v", err)
	}
	if got, err := b.look(f, later); err != nil || got.Version(trust.RoleRoot) != 2 {
		t.Errorf("again: %v", err)
	}

	// A root that takes the online key away counts although nothing below it is there.
	revoking := newWorld(t)
	m, _ := newMirror(t, revoking)
	before := copyOf(t, revoking.dir)
	fresh := testworld.NewSigner("online new")
	old := revoking.online[0]
	revoking.newRoot(revoking.roots, func(e *trust.RootEdit) error { return addOnline(e, fresh) })
	revoking.online = []*testworld.Signer{fresh}
	revoking.publish(trust.Change{})
	revoking.newRoot(revoking.roots, func(e *trust.RootEdit) error { return removeOnline(e, old) })
	cut := copyOf(t, revoking.dir)
	cut.data[trust.TimestampName] = before.data[trust.TimestampName]
	_, err = m.look(cut, later)
	wantErr(t, err, trust.ErrThreshold)
	m.reopen()
	if r, err := m.state.Current(); err != nil || r.Version(trust.RoleRoot) != 1 {
		t.Errorf("expected the set of root 1 to be served until there is another, got %v", err)
	}
	_, err = m.look(before, later)
	wantErr(t, err, trust.ErrThreshold)
	if r := m.must(revoking.dir, later); r.Version(trust.RoleRoot) != 3 {
		t.Errorf("expected root 3, got %d", r.Version(trust.RoleRoot))
	}
}

// Whatever step a mirror dies at, what it serves is one whole set, and it goes on.
func TestRememberingCrashesAtEveryStep(t *testing.T) {
	testworld.Unraced(t)
	t.Parallel()
	w := newWorld(t)
	w.add(one)
	m, _ := newMirror(t, w)
	before := m.cfg.Dir
	w.newRoot(w.roots, nil)
	w.add(two)
	cut := without(copyOf(t, w.dir), "3.targets.json")
	steps := 0
	for done := false; !done; steps++ {
		for _, after := range []bool{false, true} {
			d := directory{Path: filepath.Join(testworld.TempDir(t), "M")}
			b := &box{t: t, cfg: config(d, nil)}
			if err := os.CopyFS(b.cfg.Dir, os.DirFS(before)); err != nil {
				t.Fatal(err)
			}
			b.cfg.FS, _ = testworld.Crash(steps+1, after)
			b.reopen()
			_, err := b.look(cut, w.clock())
			wantErr(t, err, trust.ErrNotFound)
			done = b.refresh(w.dir, w.clock()) == nil
			if _, err := verify(d, nil, w.clock()); err != nil {
				t.Fatalf("step %d: %v", steps, err)
			}
			b.cfg.FS = disk.FS{}
			b.reopen()
			wantListed(t, b.must(w.dir, w.clock()), one, two)
			wantNoTemps(t, d.Path)
		}
	}
	if steps < 20 {
		t.Errorf("expected at least 20 steps, got %d", steps)
	}
}

// loseTimestamps has a box lose each timestamp that it stored or remembers.
func (b *box) loseTimestamps() {
	b.t.Helper()
	for _, dir := range []string{b.cfg.Dir, filepath.Join(b.cfg.Dir, "remembered")} {
		for _, path := range []string{filepath.Join(dir, trust.TimestampName), filepath.Join(dir, disk.CopyPath(trust.TimestampName))} {
			if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
				b.t.Fatal(err)
			}
		}
	}
	b.reopen()
}

// A snapshot that was accepted without its list counts although its timestamp is lost: no older one is accepted after it.
// Once a root takes the online key away, it counts no longer (TUF 1.0, 5.3.11).
func TestSnapshotCountsWithoutItsTimestamp(t *testing.T) {
	for _, what := range []string{"a box", "a mirror"} {
		w := newWorld(t)
		w.add(one)
		b := newBox(t, w.repo.Root())
		if what == "a mirror" {
			b, _ = newMirror(t, w)
		}
		b.must(w.dir, w.clock())
		thief := w.online[0]
		far := w.repo
		for range 8 {
			e, err := far.EditTargets(w.state.Ledger(), 0, w.at)
			if err != nil {
				t.Fatal(err)
			}
			if far, err = far.Next(t.Context(), w.at, trust.Change{Targets: w.sign(e, w.releases...)}, thief); err != nil {
				t.Fatal(err)
			}
		}
		_, err := b.look(without(served(far), trust.FileName(trust.RoleTargets, far.Version(trust.RoleTargets))), w.clock())
		wantErr(t, err, trust.ErrNotFound)
		b.loseTimestamps()
		_, err = b.look(w.dir, w.clock())
		if wantErr(t, err, trust.ErrRollback); !strings.Contains(err.Error(), "snapshot 2") {
			t.Errorf("%s: got %v", what, err)
		}

		fresh := testworld.NewSigner("online new")
		w.newRoot(w.roots, func(e *trust.RootEdit) error { return addOnline(e, fresh) })
		w.online = []*testworld.Signer{fresh}
		w.publish(trust.Change{})
		_, err = b.look(w.dir, w.clock())
		wantErr(t, err, trust.ErrRollback)
		w.newRoot(w.roots, func(e *trust.RootEdit) error { return removeOnline(e, thief) })
		if is, was := w.repo.Version(trust.RoleSnapshot), far.Version(trust.RoleSnapshot); is >= was {
			t.Fatalf("expected a snapshot below %d, got %d", was, is)
		}
		wantListed(t, b.must(w.dir, w.clock()), one)
		b.reopen()
		wantListed(t, b.must(w.dir, w.clock()), one)
	}
}
