package origin_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/origin"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

// TestPublish restarts the origin after each step.
func TestPublish(t *testing.T) {
	w := newWorld(t)
	p := w.list(w.releases, one, big)
	out := w.send(p, origin.StatusStaged)
	if out.ID != update.Sum(p.Raw()) || len(out.Archives) != 2 || out.Archives[1].Blocks || !slices.Equal(out.Archives[1].Missing, []origin.Range{{0, 3}}) {
		t.Fatalf("expected two archives without block lists, got %+v", out)
	}
	w.wantKept([]int64{2}, nil)
	w.restart()
	_, err := w.Commit(t.Context(), out.ID)
	wantErr(t, err, store.ErrIncomplete)
	data, d := content(big), update.Sum(content(big))
	wantErr(t, w.PutBlock(t.Context(), out.ID, d, 0, block(data, 0)), origin.ErrBlocks)
	must(t, w.PutBlocks(t.Context(), out.ID, d, testworld.Blocks(data).Bytes()))
	must(t, w.PutBlock(t.Context(), out.ID, d, 1, block(data, 1)))
	w.restart()
	out = w.send(p, origin.StatusStaged)
	if !out.Archives[1].Blocks || !slices.Equal(out.Archives[1].Missing, []origin.Range{{0, 1}, {2, 3}}) {
		t.Fatalf("expected blocks 0 and 2 missing, got %+v", out.Archives[1])
	}
	a, err := w.Archive(t.Context(), out.ID, d)
	must(t, err)
	if !slices.Equal(a.Missing, out.Archives[1].Missing) || a.Name != name(big) || a.Length != int64(len(data)) {
		t.Fatalf("expected %+v, got %+v", out.Archives[1], a)
	}
	must(t, w.upload(out))
	w.wantListed()
	w.restart()
	v, err := w.Commit(t.Context(), out.ID)
	must(t, err)
	w.wantListed(one, big)
	if want := (status.Versions{Root: 1, Targets: 2, Snapshot: 2, Timestamp: 2}); v != want || w.State().Versions != want {
		t.Fatalf("expected %v, got %v", want, v)
	}
	w.wantKept(nil, nil)
	w.restart()
	w.wantListed(one, big)
	if again, err := w.Commit(t.Context(), out.ID); err != nil || again.Targets != 2 {
		t.Fatalf("commit again: %v, %v", again, err)
	}
	if left, err := os.ReadDir(filepath.Join(w.dir, "staging", "publish")); err != nil || len(left) > 0 {
		t.Fatalf("left in staging: %v, %v", left, err)
	}
}

func TestNothingWithoutSignature(t *testing.T) {
	w := newWorld(t)
	p := w.list(w.releases, one)
	thief := newWorld(t)
	thief.releases = []*testworld.Signer{testworld.NewSigner("thief")}
	cases := map[string]struct {
		raw  []byte
		want error
	}{
		"nothing":        {nil, trust.ErrMalformed},
		"junk":           {[]byte("junk"), trust.ErrMalformed},
		"too long":       {make([]byte, trust.MaxLength(trust.RoleTargets)+1), trust.ErrMalformed},
		"no signature":   {append([]byte(`{"signatures":[],"signed":`), signedPart(p.Raw())...), trust.ErrThreshold},
		"another digest": {bytes.Replace(p.Raw(), []byte(`"length":`), []byte(`"length":1`), 1), trust.ErrThreshold},
	}
	before := w.files()
	for what, c := range cases {
		if _, err := w.Propose(t.Context(), trust.RoleTargets, c.raw); !errors.Is(err, c.want) {
			t.Errorf("%s: expected %q, got %v", what, c.want, err)
		}
	}
	if _, err := w.Propose(t.Context(), trust.RoleSnapshot, p.Raw()); !errors.Is(err, trust.ErrMalformed) {
		t.Errorf("snapshot: expected %q, got %v", trust.ErrMalformed, err)
	}
	if after := w.files(); !slices.Equal(before, after) {
		t.Fatalf("expected the files %v, got %v", before, after)
	}
}

// signedPart cuts the signed part and the closing brace off a file.
func signedPart(raw []byte) []byte {
	_, part, _ := bytes.Cut(raw, []byte(`,"signed":`))
	return part
}

func TestNothingBeyondWhatWasSigned(t *testing.T) {
	w := newWorld(t)
	out := w.send(w.list(w.releases, big), origin.StatusStaged)
	ctx, d, data := t.Context(), update.Sum(content(big)), content(big)
	other := update.Sum([]byte("other"))
	list := testworld.Blocks(data).Bytes()
	wantErr(t, w.PutBlocks(ctx, other, d, list), origin.ErrNotFound)
	wantErr(t, w.PutBlocks(ctx, out.ID, other, list), origin.ErrNotFound)
	wantErr(t, w.PutBlocks(ctx, out.ID, d, list[1:]), store.ErrCorrupt)
	wantErr(t, w.PutBlocks(ctx, out.ID, d, testworld.Blocks(data[1:]).Bytes()), store.ErrCorrupt)
	must(t, w.PutBlocks(ctx, out.ID, d, list))
	path := filepath.Join(w.dir, "staging", "publish", update.Sum(list).String()+".blocks")
	first, err := os.Stat(path)
	must(t, err)
	must(t, w.PutBlocks(ctx, out.ID, d, list))
	if second, err := os.Stat(path); err != nil || !os.SameFile(first, second) {
		t.Errorf("expected the block list not to be written again, got %v", err)
	}
	before := w.files()
	wantErr(t, w.PutBlock(ctx, other, d, 0, block(data, 0)), origin.ErrNotFound)
	wantErr(t, w.PutBlock(ctx, out.ID, other, 0, block(data, 0)), origin.ErrNotFound)
	wantErr(t, w.PutBlock(ctx, out.ID, d, 3, block(data, 0)), origin.ErrNotFound)
	wantErr(t, w.PutBlock(ctx, out.ID, d, -1, block(data, 0)), origin.ErrNotFound)
	wantErr(t, w.PutBlock(ctx, out.ID, d, 0, block(data, 1)), store.ErrCorrupt)
	wantErr(t, w.PutBlock(ctx, out.ID, d, 0, block(data, 0)[1:]), store.ErrCorrupt)
	if _, err := w.Archive(ctx, other, d); !errors.Is(err, origin.ErrNotFound) {
		t.Errorf("expected %q, got %v", origin.ErrNotFound, err)
	}
	if after := w.files(); !slices.Equal(before, after) {
		t.Fatalf("expected the files %v, got %v", before, after)
	}
	must(t, w.PutBlock(ctx, out.ID, d, 0, block(data, 0)))
	wantErr(t, w.PutBlock(ctx, out.ID, d, 1, block(data, 0)), store.ErrCorrupt)
	if a, err := w.Archive(ctx, out.ID, d); err != nil || !slices.Equal(a.Missing, []origin.Range{{1, 3}}) {
		t.Fatalf("expected blocks 1 and 2 missing, got %v, %v", a.Missing, err)
	}
}

// TestCosign is a publish that two of three must sign, each from a computer of its own.
func TestCosign(t *testing.T) {
	w := newWorldOf(t, 3, 2)
	ctx := t.Context()
	p := w.list(w.releases[:1], one)
	out := w.send(p, origin.StatusPending)
	if n := out.Needs; len(n) != 1 || n[0].Threshold != 2 || len(n[0].Have) != 1 || n[0].Have[0] != w.releases[0].Public().ID() || len(n[0].Missing) != 2 {
		t.Fatalf("expected one of three to have signed, got %+v", n)
	}
	wantErr(t, w.PutBlocks(ctx, out.ID, update.Sum(content(one)), testworld.Blocks(content(one)).Bytes()), origin.ErrNotFound)
	_, err := w.Commit(ctx, out.ID)
	wantErr(t, err, origin.ErrNotFound)
	w.restart()
	w.wantKept(nil, []int64{2})
	raw, err := w.PendingRaw(w.State().Pending[0].ID)
	must(t, err)
	seen, err := w.s.Repository().CheckTargets(w.s.Ledger(), w.State().Reserved, raw, w.now())
	must(t, err)
	both, err := seen.Cosign(ctx, w.releases[1])
	must(t, err)
	staged := w.send(both, origin.StatusStaged)
	w.wantKept([]int64{2}, nil)
	if _, err := w.PendingRaw(staged.ID); !errors.Is(err, origin.ErrNotFound) {
		t.Errorf("expected the file of a staged list to be told to nobody, got %v", err)
	}
	// The first signer has the archive, and learns the ID by sending its own file again.
	w.restart()
	if again := w.send(p, origin.StatusStaged); again.ID != staged.ID {
		t.Fatalf("expected ID %v, got %v", staged.ID, again.ID)
	}
	// So it stays when a third signs that was not needed.
	all, err := both.Cosign(ctx, w.releases[2])
	must(t, err)
	if again := w.send(all, origin.StatusStaged); again.ID != staged.ID {
		t.Fatalf("expected ID %v, got %v", staged.ID, again.ID)
	}
	w.finish(staged)
	w.wantListed(one)
	if again := w.send(p, origin.StatusCommitted); again.ID != staged.ID {
		t.Fatalf("expected ID %v, got %v", staged.ID, again.ID)
	}
}

// TestSignaturesAreMerged has each signer send its own signature alone.
func TestSignaturesAreMerged(t *testing.T) {
	w := newWorldOf(t, 3, 3)
	first := w.list(w.releases[:1], one)
	w.send(first, origin.StatusPending)
	for i, want := range []origin.Status{origin.StatusPending, origin.StatusStaged} {
		p, err := first.Cosign(t.Context(), w.releases[i+1])
		must(t, err)
		w.send(p, want)
		w.restart()
	}
	w.wantKept([]int64{2}, nil)
	w.finish(w.send(first, origin.StatusStaged))
}

// TestOneForEachKey lets a signer replace its own list, and nobody bring the old one back.
func TestOneForEachKey(t *testing.T) {
	w := newWorldOf(t, 3, 2)
	a := w.list(w.releases[:1], one)
	w.send(a, origin.StatusPending)
	b := w.list(w.releases[1:2], two)
	w.send(b, origin.StatusPending)
	w.wantKept(nil, []int64{2, 3})
	newer := w.list(w.releases[:1], three)
	w.send(newer, origin.StatusPending)
	w.wantKept(nil, []int64{3, 4})
	w.at(day.Add(time.Minute))
	w.refuse(a, trust.ErrConflict)
	w.restart()
	w.wantKept(nil, []int64{3, 4})
	// One of the same number, signed a day later.
	w.at(day.Add(days))
	e, err := w.s.Repository().EditTargets(w.s.Ledger(), 3, w.now())
	must(t, err)
	must(t, e.Add(addition(one, content(one))))
	later, err := e.Sign(t.Context(), w.releases[0])
	must(t, err)
	w.send(later, origin.StatusPending)
	w.wantKept(nil, []int64{3, 4})
	w.refuse(newer, trust.ErrConflict)
}

func TestPendingExpires(t *testing.T) {
	w := newWorldOf(t, 3, 3)
	p := w.list(w.releases[:1], one)
	w.send(p, origin.StatusPending)
	w.at(day.Add(7*days - time.Second))
	w.restart()
	w.wantKept(nil, []int64{2})
	w.send(p, origin.StatusPending)
	// A further signature does not give it more time.
	more, err := p.Cosign(t.Context(), w.releases[1])
	must(t, err)
	w.send(more, origin.StatusPending)
	w.at(day.Add(7 * days))
	w.restart()
	w.wantKept(nil, nil)
	if s := w.State(); s.Reserved != 0 {
		t.Fatalf("expected nothing reserved, got %d", s.Reserved)
	}
}

func TestCompleteIsNotHeldUp(t *testing.T) {
	w := newWorldOf(t, 3, 2)
	complete := w.list(w.releases[:2], one)
	w.send(w.list(w.releases[2:], two), origin.StatusPending)
	w.wantKept(nil, []int64{2})
	out := w.send(complete, origin.StatusStaged)
	w.wantKept([]int64{2}, []int64{2})
	w.finish(out)
	w.wantKept(nil, nil)
	w.wantListed(one)
}

// TestAbort takes a signed list back by one with a higher number.
func TestAbort(t *testing.T) {
	w := newWorld(t)
	w.publish(one)
	mistake := w.list(w.releases, two)
	stopped := w.send(mistake, origin.StatusStaged)
	must(t, w.upload(stopped))
	instead := w.list(w.releases, three)
	if instead.Version() != mistake.Version()+1 {
		t.Fatalf("expected number %d, got %d", mistake.Version()+1, instead.Version())
	}
	out := w.send(instead, origin.StatusStaged)
	w.wantKept([]int64{3, 4}, nil)
	w.restart()
	w.send(mistake, origin.StatusStaged)
	w.finish(out)
	w.wantListed(one, three)
	w.wantKept(nil, nil)
	if open := w.openArchives(); open != 0 {
		t.Errorf("expected no archive open, got %d", open)
	}
	_, err := w.Commit(t.Context(), stopped.ID)
	wantErr(t, err, origin.ErrNotFound)
	w.refuse(mistake, trust.ErrConflict)
}

// TestHigherNumberFollows commits the list that was to be replaced after all: the other still counts.
func TestHigherNumberFollows(t *testing.T) {
	w := newWorld(t)
	low := w.send(w.list(w.releases, one), origin.StatusStaged)
	high := w.send(w.list(w.releases, two), origin.StatusStaged)
	w.finish(low)
	w.wantKept([]int64{3}, nil)
	w.finish(high)
	w.wantListed(two)
}

func TestTwoSigners(t *testing.T) {
	w := newWorld(t)
	mine, theirs := w.list(w.releases, one), w.list(w.releases, two)
	out := w.send(theirs, origin.StatusStaged)
	conflict := (*origin.ConflictError)(nil)
	if err := w.refuse(mine, trust.ErrConflict); !errors.As(err, &conflict) || conflict.Staged != 2 || conflict.Current.Targets != 1 {
		t.Fatalf("expected list 2 staged over list 1, got %+v", conflict)
	}
	w.finish(out)
	conflict = nil
	if err := w.refuse(mine, trust.ErrConflict); !errors.As(err, &conflict) || conflict.Staged != 0 || conflict.Current.Targets != 2 {
		t.Fatalf("expected list 2 published, got %+v", conflict)
	}
	w.publish(one)
	w.wantListed(one, two)
}

// TestBuffersAreTheCallers reuses what it sent.
func TestBuffersAreTheCallers(t *testing.T) {
	w := newWorldOf(t, 2, 2)
	p := w.list(w.releases[:1], one)
	raw := bytes.Clone(p.Raw())
	out, err := w.Propose(t.Context(), trust.RoleTargets, raw)
	must(t, err)
	clear(raw)
	if kept, err := w.PendingRaw(out.ID); err != nil || !bytes.Equal(kept, p.Raw()) {
		t.Fatalf("expected it as it was sent, got %q, %v", kept, err)
	}
	full, err := p.Cosign(t.Context(), w.releases[1])
	must(t, err)
	staged := w.send(full, origin.StatusStaged)
	a := staged.Archives[0]
	wantErr(t, w.PutBlock(t.Context(), staged.ID, a.Digest, 0, nil), origin.ErrBlocks)
	list, data := testworld.Blocks(content(one)).Bytes(), content(one)
	must(t, w.PutBlocks(t.Context(), staged.ID, a.Digest, list))
	clear(list)
	for range 2 {
		wantErr(t, w.PutBlock(t.Context(), staged.ID, a.Digest, 0, nil), store.ErrCorrupt)
		must(t, w.PutBlock(t.Context(), staged.ID, a.Digest, 0, data))
	}
	clear(data)
	w.finish(staged)
	w.wantListed(one)
}

func TestReplay(t *testing.T) {
	w := newWorld(t)
	old := w.publish(one)
	current := w.publish(two)
	w.refuse(old, trust.ErrConflict)
	_, err := w.Commit(t.Context(), update.Sum(old.Raw()))
	wantErr(t, err, origin.ErrNotFound)
	before := w.State()
	if out := w.send(current, origin.StatusCommitted); out.ID != update.Sum(current.Raw()) {
		t.Fatalf("expected ID %v, got %v", update.Sum(current.Raw()), out.ID)
	}
	if after := w.State(); after.Versions != before.Versions {
		t.Fatalf("expected %v, got %v", before.Versions, after.Versions)
	}
}

func TestSecondDigestAndWithdrawal(t *testing.T) {
	w := newWorld(t)
	w.publish(one, two)
	e := w.edit()
	must(t, e.Withdraw(name(one)))
	p, err := e.Sign(t.Context(), w.releases[0])
	must(t, err)
	out := w.send(p, origin.StatusStaged)
	if len(out.Archives) != 0 {
		t.Fatalf("expected nothing missing, got %+v", out.Archives)
	}
	w.finish(out)
	w.wantListed(two)
	w.restart()
	// A signer that has lost its memory would sign it.
	e, err = w.s.Repository().EditTargets(new(trust.Ledger), 0, w.now())
	must(t, err)
	must(t, e.Add(addition(one, []byte("other"))))
	p, err = e.Sign(t.Context(), w.releases[0])
	must(t, err)
	w.refuse(p, trust.ErrSecondDigest)
	w.publish(one)
	w.wantListed(one, two)
}

// TestRootGrows goes from one root and one release key to two of three of each.
func TestRootGrows(t *testing.T) {
	w := newWorld(t)
	w.publish(one)
	roots := []*testworld.Signer{w.roots[0], testworld.NewSigner("root 1"), testworld.NewSigner("root 2")}
	releases := []*testworld.Signer{w.releases[0], testworld.NewSigner("release 1"), testworld.NewSigner("release 2")}
	add := func(e *trust.RootEdit) error {
		return errors.Join(e.AddKey(trust.RoleRoot, roots[1].Public()), e.AddKey(trust.RoleRoot, roots[2].Public()), e.SetThreshold(trust.RoleRoot, 2),
			e.AddKey(trust.RoleTargets, releases[1].Public()), e.AddKey(trust.RoleTargets, releases[2].Public()))
	}
	first := w.root(roots[:1], add)
	out := w.send(first, origin.StatusPending)
	if len(out.Needs) != 2 || len(out.Needs[0].Have) != 1 || len(out.Needs[1].Have) != 1 || out.Needs[1].Threshold != 2 {
		t.Fatalf("expected the new threshold to be unmet, got %+v", out.Needs)
	}
	w.restart()
	second, err := first.Cosign(t.Context(), roots[2])
	must(t, err)
	before := w.State().Versions
	done := w.send(second, origin.StatusCommitted)
	if want := (status.Versions{Root: 2, Targets: 2, Snapshot: before.Snapshot + 1, Timestamp: before.Timestamp + 1}); done.Current != want {
		t.Fatalf("expected %v, got %v", want, done.Current)
	}
	w.wantKept(nil, nil)
	w.wantListed(one)
	w.restart()
	if again := w.send(second, origin.StatusCommitted); again.Current.Root != 2 {
		t.Fatalf("expected root 2, got %v", again.Current)
	}
	w.finish(w.send(w.list(releases[:2], two), origin.StatusStaged))
	third := w.send(w.root(roots[:1], func(e *trust.RootEdit) error { return e.SetThreshold(trust.RoleTargets, 2) }), origin.StatusPending)
	raw, err := w.PendingRaw(third.ID)
	must(t, err)
	again, err := w.s.Repository().CheckRoot(raw, w.now())
	must(t, err)
	both, err := again.Cosign(t.Context(), roots[1])
	must(t, err)
	w.send(both, origin.StatusCommitted)
	w.refuse(second, trust.ErrConflict)
	w.send(w.list(releases[:1], three), origin.StatusPending)
}

// TestRootWhileStaged replaces the release key while a list that the old one signed is on its way: it must not go out.
func TestRootWhileStaged(t *testing.T) {
	w := newWorldOf(t, 1, 1)
	w.publish(one)
	fresh := testworld.NewSigner("release new")
	w.send(w.root(w.roots, func(e *trust.RootEdit) error { return e.AddKey(trust.RoleTargets, fresh.Public()) }), origin.StatusCommitted)
	w.finish(w.send(w.list([]*testworld.Signer{fresh}, two), origin.StatusStaged))
	staged := w.send(w.list(w.releases, three), origin.StatusStaged)
	must(t, w.upload(staged))
	w.send(w.root(w.roots, func(e *trust.RootEdit) error {
		return e.RemoveKey(trust.RoleTargets, w.releases[0].Public().ID())
	}), origin.StatusCommitted)
	w.wantKept(nil, nil)
	_, err := w.Commit(t.Context(), staged.ID)
	wantErr(t, err, origin.ErrNotFound)
	w.wantListed(one, two)
}

// TestOnlineKey replaces the online key in two steps, with a restart for each.
func TestOnlineKey(t *testing.T) {
	w := newWorld(t)
	w.publish(one)
	old, fresh := w.online[0], testworld.NewSigner("online new")
	both := []trust.Role{trust.RoleSnapshot, trust.RoleTimestamp}
	drop := func(e *trust.RootEdit) error {
		return errors.Join(e.RemoveKey(both[0], old.Public().ID()), e.RemoveKey(both[1], old.Public().ID()))
	}
	w.send(w.root(w.roots, func(e *trust.RootEdit) error {
		return errors.Join(e.AddKey(both[0], fresh.Public()), e.AddKey(both[1], fresh.Public()))
	}), origin.StatusCommitted)
	early := w.copied()
	w.online = []*testworld.Signer{fresh}
	w.restart()
	must(t, w.Renew(t.Context()))
	w.whole()
	last := w.root(w.roots, drop)
	early.refuse(last, trust.ErrStranded)
	w.send(last, origin.StatusCommitted)
	w.publish(two)
	w.wantListed(one, two)
	if h := w.Health(w.now()); len(h) > 0 {
		t.Fatalf("expected no warning, got %v", h)
	}
}

func TestWithoutOnlineKey(t *testing.T) {
	for what, online := range map[string][]*testworld.Signer{"none": nil, "another": {testworld.NewSigner("another")}} {
		t.Run(what, func(t *testing.T) {
			w := newWorldOf(t, 2, 2)
			w.online = online
			w.restart()
			first := w.list(w.releases[:1], one)
			w.send(first, origin.StatusPending)
			w.refuse(w.list(w.releases, two), origin.ErrNoKey)
			w.refuse(w.root(w.roots, func(*trust.RootEdit) error { return nil }), origin.ErrNoKey)
			wantErr(t, w.Renew(t.Context()), origin.ErrNoKey)
			if h := w.Health(w.now()); len(h) != 1 || h[0].Subject != "online key" || !h[0].Urgent {
				t.Fatalf("expected a warning about the online key, got %v", h)
			}
		})
	}
}

// TestStagedGivesWay bounds how many complete lists wait.
func TestStagedGivesWay(t *testing.T) {
	w := newWorld(t)
	for _, n := range []string{one, two, three, big} {
		w.send(w.list(w.releases, n), origin.StatusStaged)
	}
	w.wantKept([]int64{2, 3, 4, 5}, nil)
	w.send(w.list(w.releases, one, two), origin.StatusStaged)
	w.wantKept([]int64{3, 4, 5, 6}, nil)
}

// TestManyOpen has more archives on their way than may be open.
func TestManyOpen(t *testing.T) {
	w := newWorld(t)
	w.change = func(c *origin.Config) { c.MaxOpen = 1 }
	w.restart()
	out := w.send(w.list(w.releases, one, two, three, big), origin.StatusStaged)
	must(t, w.upload(out))
	if open := w.openArchives(); open != 1 {
		t.Errorf("expected 1 archive open, got %d", open)
	}
	w.finish(out)
	w.wantListed(one, two, three, big)
	if open := w.openArchives(); open != 0 {
		t.Errorf("expected no archive open, got %d", open)
	}
}

// openArchives counts the archives that this process has open.
func (w *world) openArchives() (n int) {
	w.t.Helper()
	links, err := filepath.Glob("/proc/self/fd/*")
	must(w.t, err)
	for _, l := range links {
		path, err := os.Readlink(l)
		if err == nil && strings.HasPrefix(path, w.dir) && path != filepath.Join(w.dir, "lock") {
			n++
		}
	}
	return n
}

// elsewhere is a directory that somebody else fills.
type elsewhere struct{ path string }

func (e elsewhere) OpenDigest(d update.Digest) (*os.File, bool) {
	if d != update.Sum(content(one)) {
		return nil, false
	}
	f, err := os.Open(e.path)
	return f, err == nil
}

func TestArchiveThatIsThere(t *testing.T) {
	w := newWorld(t)
	path := filepath.Join(t.TempDir(), one)
	must(t, os.WriteFile(path, content(one), 0o644))
	w.close()
	s, err := store.Open(t.Context(), store.Config{Dir: w.dir, Now: w.now, Elsewhere: elsewhere{path}.OpenDigest})
	must(t, err)
	o, err := origin.Open(t.Context(), origin.Config{Store: s, Online: testworld.Signers(w.online...), Now: w.now})
	must(t, err)
	w.s, w.Origin = s, o
	out := w.send(w.list(w.releases, one), origin.StatusStaged)
	if len(out.Archives) != 0 {
		t.Fatalf("expected nothing missing, got %+v", out.Archives)
	}
	if _, err := w.Commit(t.Context(), out.ID); err != nil {
		t.Fatal(err)
	}
	if s.Repository().Version(trust.RoleTargets) != 2 {
		t.Fatal("not published")
	}
}

func TestNoRepository(t *testing.T) {
	root := newWorld(t).s.Root()
	s, err := store.Open(t.Context(), store.Config{Dir: t.TempDir(), Root: root.Raw()})
	must(t, err)
	defer s.Close()
	_, err = origin.Open(t.Context(), origin.Config{Store: s})
	wantErr(t, err, trust.ErrNone)
}

// TestDamagedStaging finds files that are not what their names say.
func TestDamagedStaging(t *testing.T) {
	w := newWorldOf(t, 2, 2)
	out := w.send(w.list(w.releases[:1], one), origin.StatusPending)
	dir := filepath.Join(w.dir, "staging", "publish")
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	must(t, err)
	if len(files) != 1 {
		t.Fatalf("expected one file, got %v", files)
	}
	raw, err := os.ReadFile(files[0])
	must(t, err)
	w.close()
	must(t, os.WriteFile(files[0], raw[:len(raw)-1], 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "junk"), raw, 0o644))
	must(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("2.targets.%v.%d", update.Sum(nil), day.Unix())), raw, 0o644))
	must(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("4.targets.%v.%d", out.ID, day.Unix())), raw, 0o644))
	must(t, os.Symlink("/dev/zero", filepath.Join(dir, "3.targets."+out.ID.String()+".1")))
	must(t, os.Mkdir(filepath.Join(dir, "directory"), 0o755))
	w.open()
	w.wantKept(nil, nil)
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) != 1 {
		t.Fatalf("expected the directory alone, got %v, %v", left, err)
	}
}
