package trust_test

import (
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

const half = 180 * hours24 // a year

// TestTimeAhead is an online key that signed a time half a year ahead, because the origin's clock was wrong or because it
// is stolen. Boxes that saw that refuse what the key signs now; no signer is locked out, and a new online key
// ends it for signer, origin, mirror and box.
func TestTimeAhead(t *testing.T) {
	w := newWorld(t)
	w.add(one)
	b, m, s := newBox(t, w.repo.Root()), newBox(t, w.repo.Root()), newBox(t, w.repo.Root())
	m.cfg.DeferRoots = true
	m.reopen()
	signer := trust.Clock{Now: w.at, AcceptExpired: true}
	for _, c := range []*box{b, m} {
		c.must(w.dir, w.clock())
	}
	s.must(w.dir, signer)
	w.at = w.at.Add(half)
	w.publish(trust.Change{})
	w.at = day
	ahead := w.repo
	for _, c := range []*box{b, m} {
		c.must(w.dir, w.clock()) // all is well, as far as they know
	}
	s.must(w.dir, signer)

	_, err := w.repo.EditTargets(w.state.Ledger(), 0, w.at)
	wantErr(t, err, trust.ErrAhead)
	_, err = w.repo.Next(t.Context(), w.at, trust.Change{}, w.online[0])
	wantErr(t, err, trust.ErrAhead)
	wantErr(t, err, trust.ErrClock)

	// A root that leaves the online key alone takes nothing back, and reaches the boxes.
	w.newRoot(w.roots, nil)
	if got := w.repo.Issued(trust.RoleTimestamp); !got.Equal(day.Add(half)) {
		t.Errorf("expected the time to stay %v, got %v", day.Add(half), got)
	}
	if got := b.must(w.dir, w.clock()).Root().Version(); got != 2 {
		t.Errorf("expected root 2, got %d", got)
	}
	wantErr(t, w.repo.CheckClock(w.at), trust.ErrAhead)

	// One that lets a new key in does neither, as long as that has not signed. A crash may come in between.
	old, fresh := w.online[0], testworld.NewSigner("online new")
	w.newRoot(w.roots, func(e *trust.RootEdit) error { return addOnline(e, fresh) })
	_, err = w.repo.Next(t.Context(), w.at, trust.Change{}, w.online[0])
	wantErr(t, err, trust.ErrAhead)
	w.online = []*testworld.Signer{old, fresh}
	w.publish(trust.Change{})
	if got := w.repo.Issued(trust.RoleTimestamp); !got.Equal(day) {
		t.Errorf("expected the new key to sign %v, got %v", day, got)
	}
	w.newRoot(w.roots, func(e *trust.RootEdit) error { return removeOnline(e, old) })
	w.online = []*testworld.Signer{fresh}
	w.add(two)
	e := w.edit()
	if err := e.Withdraw(name(t, one)); err != nil {
		t.Fatal(err)
	}
	w.publish(trust.Change{Targets: w.sign(e, w.releases...)})
	for _, c := range []*box{b, m} {
		r := c.must(w.dir, w.clock())
		wantListed(t, r, two)
		if got := r.Reference(w.clock()); !got.Equal(w.at) {
			t.Errorf("expected the time %v, got %v", w.at, got)
		}
		c.reopen()
		wantErr(t, c.refresh(served(ahead), w.clock()), trust.ErrThreshold)
	}
	wantListed(t, s.must(w.dir, signer), two)
	w.state = reopened(t, w.dir)
	if w.repo, err = w.state.Current(); err != nil {
		t.Fatal(err)
	}
	w.at = w.at.Add(time.Hour)
	w.publish(trust.Change{})
	b.must(w.dir, w.clock())
}

// TestTimeBeyondTheRoot is a time that no box took: not even a root has to keep it.
func TestTimeBeyondTheRoot(t *testing.T) {
	w := newWorld(t)
	w.add(one)
	b := newBox(t, w.repo.Root())
	b.must(w.dir, w.clock())
	w.at = w.at.Add(4 * trust.RootLife)
	w.publish(trust.Change{})
	w.at = day
	wantErr(t, b.refresh(w.dir, w.clock()), trust.ErrExpired)
	w.newRoot(w.roots, nil)
	wantListed(t, b.must(w.dir, w.clock()), one)
	w.publish(trust.Change{})
	b.must(w.dir, w.clock())
}
