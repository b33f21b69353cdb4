package origin_test

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/origin"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

// clockWarning returns what Health says of the clock, "" for nothing.
func (w *world) clockWarning() string {
	for _, h := range w.Health(w.now()) {
		if h.Subject == origin.SubjectClock && h.Urgent {
			return h.Text
		}
	}
	return ""
}

// TestRunMindsAJump is a clock that jumps ahead by half a year while the origin runs, or before it is started.
func TestRunMindsAJump(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var shift atomic.Int64
		w.now = func() time.Time { return time.Now().Add(time.Duration(shift.Load())) }
		stop := w.running()
		before := w.State().Timestamp
		shift.Store(int64(180 * days))
		time.Sleep(2 * days)
		stop()
		w.close()
		w.open()
		w.Begin(t.Context())
		stop = w.running()
		defer stop()
		time.Sleep(2 * time.Hour)
		if now := w.State().Timestamp; now != before || w.clockWarning() == "" {
			t.Fatalf("expected timestamp %d and a warning, got %d and %q", before, now, w.clockWarning())
		}
		p := w.list(w.releases, one)
		shift.Store(0)
		time.Sleep(10 * time.Minute)
		if now := w.State().Timestamp; now != before+1 || w.clockWarning() != "" {
			t.Fatalf("expected timestamp %d, got %d and %q", before+1, now, w.clockWarning())
		}
		w.refuse(p, trust.ErrClock) // it was signed by the wrong clock
	})
}

// TestJumpOfTheOriginAlone is a signer whose clock is right: what was signed by it is not published with a timestamp
// from the future, a root neither, and is as soon as the clock of the origin is set.
func TestJumpOfTheOriginAlone(t *testing.T) {
	w := newWorld(t)
	p, r := w.list(w.releases, one), w.root(w.roots, unchanged)
	w.at(day.Add(180 * days))
	out := w.send(p, origin.StatusStaged)
	must(t, w.upload(out))
	_, err := w.Commit(t.Context(), out.ID)
	wantErr(t, err, origin.ErrJump)
	wantErr(t, origin.FailureOf(err).Err(), origin.ErrJump)
	_, err = w.Propose(t.Context(), trust.RoleRoot, r.Raw())
	wantErr(t, err, origin.ErrJump)
	w.at(day.Add(time.Minute))
	_, err = w.Commit(t.Context(), out.ID)
	must(t, err)
	w.wantListed(one)
}

// TestOffForLong is an origin that was off, with a clock that is right: for a month it comes back by itself, later a day in
// its configuration, the date of a new program or a list that a person signs tells it that the time is right.
func TestOffForLong(t *testing.T) {
	word := func(change func(*origin.Config)) func(*world) {
		return func(w *world) {
			w.close()
			w.change = change
			w.open()
			must(w.t, w.Renew(w.t.Context()))
		}
	}
	for name, back := range map[string]func(*world){
		"clock_checked": word(func(c *origin.Config) { c.ClockChecked = day.Add(175 * days) }),
		"new program":   word(func(c *origin.Config) { c.Built = day.Add(175 * days) }),
		"list":          func(w *world) { w.publish(two) },
		"root":          func(w *world) { w.send(w.root(w.roots, unchanged), origin.StatusCommitted) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.publish(one)
			w.at(day.Add(29 * days))
			must(t, w.Renew(t.Context()))
			w.at(day.Add(180 * days))
			wantErr(t, w.Renew(t.Context()), origin.ErrJump)
			back(w)
			w.at(w.now().Add(days))
			must(t, w.Renew(t.Context()))
			must(t, w.s.Repository().Fresh(trust.Clock{Now: w.now()}))
			if warning := w.clockWarning(); warning != "" {
				t.Error(warning)
			}
		})
	}
}

// TestFailingForLong is an origin that could sign nothing for a month and a half: it knows how long that was.
func TestFailingForLong(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		must(t, w.Renew(t.Context()))
		time.Sleep(45 * days)
		must(t, w.Renew(t.Context()))
	})
}

// TestSignedAhead is an origin that signed with a clock half a year ahead, as a thief of its key can. Then its clock is
// right. It publishes no list until a root has replaced the key, by the steps of boxsign rotate online.
func TestSignedAhead(t *testing.T) {
	w := newWorld(t)
	w.publish(one)
	w.close()
	w.change = func(c *origin.Config) { c.ClockChecked = day.Add(180 * days) }
	w.at(day.Add(180 * days))
	w.open()
	must(t, w.Renew(t.Context()))
	w.at(day)
	w.close()
	w.change = nil
	w.open()
	if w.clockWarning() == "" {
		t.Error("expected a warning")
	}
	wantErr(t, w.Renew(t.Context()), origin.ErrAhead)

	old, fresh := w.online[0], testworld.NewSigner("online new")
	w.send(w.root(w.roots, func(e *trust.RootEdit) error { return e.AddKey(trust.RoleSnapshot, fresh.Public()) }), origin.StatusCommitted)
	w.send(w.root(w.roots, func(e *trust.RootEdit) error { return e.AddKey(trust.RoleTimestamp, fresh.Public()) }), origin.StatusCommitted)
	wantErr(t, w.Renew(t.Context()), origin.ErrAhead)
	w.close()
	w.online = append(w.online, fresh)
	w.open()
	w.Begin(t.Context()) // as the server does
	for _, role := range []trust.Role{trust.RoleSnapshot, trust.RoleTimestamp} {
		w.send(w.root(w.roots, func(e *trust.RootEdit) error { return e.RemoveKey(role, old.Public().ID()) }), origin.StatusCommitted)
	}
	w.publish(two)
	w.wantListed(one, two)
	if warning := w.clockWarning(); warning != "" || !w.s.Repository().Issued(trust.RoleTimestamp).Equal(day) {
		t.Errorf("expected the right time, got %v and %q", w.s.Repository().Issued(trust.RoleTimestamp), warning)
	}
	if slices.Contains(w.s.Root().Keys(trust.RoleTimestamp), old.Public()) {
		t.Error("expected the old key to be gone")
	}
}

// unchanged renews a root.
func unchanged(*trust.RootEdit) error { return nil }
