package trust_test

import (
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

func year(y int) time.Time { return time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC) }

func TestReferenceTime(t *testing.T) {
	w := newWorld(t)
	w.add(one)
	cases := []struct {
		name  string
		clock trust.Clock
		want  error
	}{
		{"right", trust.Clock{Now: w.at}, nil},
		{"1970", trust.Clock{Now: time.Unix(0, 0)}, nil},
		{"1970, built before the list", trust.Clock{Now: time.Unix(0, 0), Built: year(2025)}, nil},
		{"1970, built after all expired", trust.Clock{Now: time.Unix(0, 0), Built: year(2030)}, trust.ErrExpired},
		{"2040", trust.Clock{Now: year(2040)}, trust.ErrExpired},
		{"2040, a program that renews", trust.Clock{Now: year(2040), AcceptExpired: true}, nil},
		{"timestamp at its expiry", trust.Clock{Now: w.at.Add(trust.TimestampLife)}, nil},
		{"timestamp past its expiry", trust.Clock{Now: w.at.Add(trust.TimestampLife + time.Second)}, trust.ErrExpired},
		{"within accept stale", trust.Clock{Now: w.at.Add(trust.TimestampLife + time.Hour), AcceptStale: time.Hour}, nil},
		{"past accept stale", trust.Clock{Now: w.at.Add(trust.TimestampLife + 2*time.Hour), AcceptStale: time.Hour}, trust.ErrExpired},
		{"root and list, whatever is stale", trust.Clock{Now: w.at.Add(trust.TargetsLife + time.Second), AcceptStale: 10 * trust.RootLife}, trust.ErrExpired},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			err := newBox(t, w.repo.Root()).refresh(w.dir, c.clock)
			if c.want != nil {
				wantErr(t, err, c.want)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestClockSetRightLater(t *testing.T) {
	w := newWorld(t)
	w.add(one)
	b := newBox(t, w.repo.Root())
	wantErr(t, b.refresh(w.dir, trust.Clock{Now: year(2040)}), trust.ErrExpired)
	b.reopen()
	wantListed(t, b.must(w.dir, w.clock()), one)
}

// TestFrozenAt1970 is a box whose clock starts in 1970 at each boot: signed time moves it on.
func TestFrozenAt1970(t *testing.T) {
	w := newWorld(t)
	w.add(one)
	b := newBox(t, w.repo.Root())
	first := copyOf(t, w.dir)
	b.must(first, trust.Clock{Now: time.Unix(0, 0)})
	w.at = w.at.Add(20 * hours24)
	w.publish(trust.Change{})
	b.must(w.dir, trust.Clock{Now: time.Unix(0, 0)})
	b.reopen()
	r, err := b.state.Current()
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Reference(trust.Clock{Now: time.Unix(0, 0)}); !got.Equal(w.at) {
		t.Errorf("expected the signed time %v, got %v", w.at, got)
	}
	// Signed time is past the expiry of a snapshot that is newer but was signed long ago.
	f := forgery{snapshot: expired(t, w)}.of(t, w)
	wantErr(t, newBox(t, w.repo.Root()).refresh(f, trust.Clock{Now: time.Unix(0, 0)}), trust.ErrExpired)
}

// TestIssuedInTheFuture is a thief of the online key, or an origin whose clock was wrong, who moves
// the time of boxes on: it lasts until a root replaces the key.
func TestIssuedInTheFuture(t *testing.T) {
	w := newWorld(t)
	w.add(one)
	b := newBox(t, w.repo.Root())
	far, err := w.repo.Next(t.Context(), w.at.Add(10*hours24), trust.Change{}, w.online[0])
	if err != nil {
		t.Fatal(err)
	}
	b.must(served(far), w.clock())
	for range 3 {
		w.publish(trust.Change{})
	}
	b.reopen()
	wantErr(t, b.refresh(w.dir, w.clock()), trust.ErrExpired)

	old, fresh := w.online[0], testworld.NewSigner("online new")
	w.newRoot(w.roots, func(e *trust.RootEdit) error { return addOnline(e, fresh) })
	w.online = []*testworld.Signer{fresh}
	w.publish(trust.Change{})
	w.newRoot(w.roots, func(e *trust.RootEdit) error { return removeOnline(e, old) })
	b.must(w.dir, w.clock())
}

func TestStaleSince(t *testing.T) {
	w := newWorld(t)
	w.add(one)
	b := newBox(t, w.repo.Root())
	late := trust.Clock{Now: w.at.Add(trust.TimestampLife + time.Hour), AcceptStale: hours24}
	r := b.must(w.dir, late)
	if got := r.StaleSince(late); !got.Equal(w.at.Add(trust.TimestampLife)) {
		t.Errorf("expected to be stale since the timestamp expired, got %v", got)
	}
	if got := r.StaleSince(w.clock()); !got.IsZero() {
		t.Errorf("expected not to be stale, got %v", got)
	}
	if _, err := b.state.Refresh(t.Context(), copyOf(t, w.dir), late); err != nil {
		t.Errorf("expected what is current to stay accepted, got %v", err)
	}
}

func TestRootExpiredAndRenewed(t *testing.T) {
	w := newWorld(t)
	w.add(one)
	b := newBox(t, w.repo.Root())
	b.must(w.dir, w.clock())
	w.at = w.at.Add(trust.RootLife + hours24)
	wantErr(t, b.refresh(w.dir, w.clock()), trust.ErrExpired)

	s := newBox(t, w.repo.Root()) // beside the signer's keys
	s.must(w.dir, trust.Clock{Now: w.at, AcceptExpired: true})
	w.newRoot(w.roots, nil)
	wantErr(t, b.refresh(w.dir, w.clock()), trust.ErrExpired) // the list is over too
	w.publish(trust.Change{Targets: w.propose(w.releases)})
	wantListed(t, b.must(w.dir, w.clock()), one)
}

func TestRenewal(t *testing.T) {
	w := newWorld(t)
	w.add(one)
	snapshot := w.repo.Version(trust.RoleSnapshot)
	if w.repo.RenewalDue(w.at.Add(trust.TimestampLife / 2)) {
		t.Error("expected no renewal at half of the timestamp's life")
	}
	w.at = w.at.Add(trust.TimestampLife/2 + time.Second)
	if !w.repo.RenewalDue(w.at) {
		t.Error("expected a renewal past half of the timestamp's life")
	}
	w.publish(trust.Change{})
	if got := w.repo.Version(trust.RoleSnapshot); got != snapshot {
		t.Errorf("expected snapshot %d to stay, got %d", snapshot, got)
	}
	w.at = w.at.Add(trust.SnapshotLife / 2)
	w.publish(trust.Change{})
	if got := w.repo.Version(trust.RoleSnapshot); got != snapshot+1 {
		t.Errorf("expected snapshot %d, got %d", snapshot+1, got)
	}
}

func TestSignersClockIsOff(t *testing.T) {
	w := newWorld(t)
	w.add(one)
	_, err := w.repo.EditTargets(w.state.Ledger(), 0, w.at.Add(-time.Hour))
	wantErr(t, err, trust.ErrAhead)

	now := w.at
	w.at = w.at.Add(time.Hour)
	p := w.propose(w.releases, two)
	_, err = w.repo.CheckTargets(w.state.Ledger(), 0, p.Raw(), now)
	wantErr(t, err, trust.ErrClock)
	r := w.proposeRoot(w.roots, nil)
	_, err = w.repo.CheckRoot(r.Raw(), now)
	wantErr(t, err, trust.ErrClock)
	_, err = w.repo.CheckTargets(w.state.Ledger(), 0, p.Raw(), now.Add(2*trust.TargetsLife))
	wantErr(t, err, trust.ErrExpired)
}
