package trust_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

// TestOnlineKeyStolen tells what a thief of the online key can do and how boxes recover.
func TestOnlineKeyStolen(t *testing.T) {
	w := newWorld(t)
	w.add(one)
	b := newBox(t, w.repo.Root())
	b.must(w.dir, w.clock())
	withoutTwo := w.repo
	w.add(two)
	b.must(w.dir, w.clock())

	// The thief counts the versions up, but can't go back to an older list, nor sign one.
	thief := w.online[0]
	far := withoutTwo
	for range 5 {
		next, err := far.Next(t.Context(), w.at, trust.Change{}, thief)
		if err != nil {
			t.Fatal(err)
		}
		far = next
	}
	wantErr(t, b.refresh(served(far), w.clock()), trust.ErrRollback)
	_, err := w.edit().Sign(t.Context(), thief)
	wantErr(t, err, trust.ErrKey)
	far = w.repo
	for range 5 {
		if far, err = far.Next(t.Context(), w.at.Add(time.Hour), trust.Change{}, thief); err != nil {
			t.Fatal(err)
		}
	}
	b.must(served(far), w.clock())
	w.publish(trust.Change{})
	wantErr(t, b.refresh(w.dir, w.clock()), trust.ErrRollback)

	// Two roots later the thief's numbers count no longer.
	fresh := testworld.NewSigner("online new")
	w.newRoot(w.roots, func(e *trust.RootEdit) error { return addOnline(e, fresh) })
	w.online = []*testworld.Signer{fresh}
	w.publish(trust.Change{})
	w.newRoot(w.roots, func(e *trust.RootEdit) error { return removeOnline(e, thief) })
	w.add(three)
	wantListed(t, b.must(w.dir, w.clock()), one, two, three)
	b.reopen()
	wantErr(t, b.refresh(served(far), w.clock()), trust.ErrThreshold)
}

// served is a mirror that serves one repository.
func served(r *trust.Repository) *files {
	f := &files{data: map[string][]byte{}}
	for _, role := range trust.Roles() {
		f.data[trust.FileName(role, r.Version(role))] = r.Raw(role)
	}
	return f
}

// TestWithheldRoot is a mirror that hides the root which took a key away.
func TestWithheldRoot(t *testing.T) {
	w := newWorldOf(t, 1, 1)
	w.add(one)
	before := copyOf(t, w.dir)
	fresh := testworld.NewSigner("online new")
	b := newBox(t, w.repo.Root())
	b.must(before, w.clock())

	old := w.online[0]
	w.newRoot(w.roots, func(e *trust.RootEdit) error { return addOnline(e, fresh) })
	w.online = []*testworld.Signer{fresh}
	w.publish(trust.Change{})
	w.newRoot(w.roots, func(e *trust.RootEdit) error { return removeOnline(e, old) })
	b.must(w.dir, w.clock())

	b.reopen() // the pinned root is still root 1
	wantErr(t, b.refresh(before, w.clock()), trust.ErrThreshold)
	if got := b.state.Root().Version(); got != 3 {
		t.Errorf("expected to stay at root 3, got %d", got)
	}

	// The roots stay accepted even where nothing below them could be fetched.
	c := newBox(t, b.state.Root())
	c.cfg.Pinned = before.data["1.root.json"]
	c.reopen()
	broken := copyOf(t, w.dir)
	broken.data[trust.TimestampName] = before.data[trust.TimestampName]
	wantErr(t, c.refresh(broken, w.clock()), trust.ErrThreshold)
	c.reopen()
	if got := c.state.Root().Version(); got != 3 {
		t.Errorf("expected root 3 to be stored, got %d", got)
	}
	wantErr(t, c.refresh(before, w.clock()), trust.ErrThreshold)
}

// TestSnapshotRemembersTheList is a box that lost its list and still knows which one it had.
func TestSnapshotRemembersTheList(t *testing.T) {
	w := newWorld(t)
	w.add(one)
	b := newBox(t, w.repo.Root())
	b.must(w.dir, w.clock())
	if err := os.Remove(filepath.Join(b.cfg.Dir, "2.targets.json")); err != nil {
		t.Fatal(err)
	}
	b.reopen()
	w.publish(trust.Change{Targets: w.propose(w.releases, two)})
	f := forgery{snapshot: replace(t, `"version":3}`, `"version":1}`)}.of(t, w)
	f.data["1.targets.json"] = f.data["3.targets.json"]
	wantErr(t, b.refresh(f, w.clock()), trust.ErrRollback)
	wantListed(t, b.must(w.dir, w.clock()), one, two)
}

// TestNewOnlineKeyGoesNotBack is a new online key that names an older list: the counts of the old key
// are forgotten, the list is not.
func TestNewOnlineKeyGoesNotBack(t *testing.T) {
	w := newWorld(t)
	w.add(one)
	w.add(two)
	b := newBox(t, w.repo.Root())
	b.must(w.dir, w.clock())
	old, fresh := w.online[0], testworld.NewSigner("online new")
	w.newRoot(w.roots, func(e *trust.RootEdit) error { return addOnline(e, fresh) })
	w.online = []*testworld.Signer{fresh}
	w.publish(trust.Change{})
	w.newRoot(w.roots, func(e *trust.RootEdit) error { return removeOnline(e, old) })
	f := forgery{snapshot: replace(t, `"version":3}`, `"version":2}`)}.of(t, w)
	for _, v := range []string{"2.root.json", "3.root.json"} {
		f.data[v] = read(t, filepath.Join(w.dir.Path, "metadata", v))
	}
	wantErr(t, b.refresh(f, w.clock()), trust.ErrRollback)
	if got := b.state.Root().Version(); got != 3 {
		t.Errorf("expected root 3, got %d", got)
	}
	wantListed(t, b.must(w.dir, w.clock()), one, two)
}
