package origin_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/origin"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

// inBubble runs a story with an origin whose clock is that of the bubble, and Run going on.
func inBubble(t *testing.T, story func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, dir: t.TempDir(), online: []*testworld.Signer{testworld.NewSigner("online")}, now: time.Now}
		w.begin(1, 1)
		story(t, w)
	})
}

// running starts Run and returns what stops it.
func (w *world) running() (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	done, o := make(chan error), w.Origin
	go func() { done <- o.Run(ctx) }()
	synctest.Wait()
	return func() {
		cancel()
		wantErr(w.t, <-done, context.Canceled)
	}
}

func TestRunRenews(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		begin := time.Now()
		stop := w.running()
		defer stop()
		if v := w.State().Versions; v != (status.Versions{Root: 1, Targets: 1, Snapshot: 1, Timestamp: 2}) {
			t.Fatalf("expected a new timestamp at the start, got %v", v)
		}
		time.Sleep(trust.TimestampLife / 2)
		if v := w.State().Versions; v.Timestamp != 2 {
			t.Fatalf("expected no renewal before half of the life is over, got %v", v)
		}
		time.Sleep(2 * time.Hour)
		if v := w.State().Versions; v.Timestamp != 3 || v.Snapshot != 1 {
			t.Fatalf("expected timestamp 3 after half of its life, got %v", v)
		}
		for time.Since(begin) < 300*days {
			time.Sleep(12 * time.Hour)
			must(t, w.s.Repository().Fresh(trust.Clock{Now: time.Now()}))
			for _, h := range w.Health(time.Now()) {
				if h.Subject != "root" && h.Subject != "targets" {
					t.Fatalf("after %v: %v", time.Since(begin), h)
				}
			}
		}
		if v := w.State().Versions; v.Snapshot < 15 || v.Snapshot > 25 || v.Timestamp < 80 || v.Timestamp > 110 {
			t.Fatalf("expected some 20 snapshots and 85 timestamps, got %v", v)
		}
		w.whole()
	})
}

func TestBeginIsTheFirstRenewal(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.Begin(t.Context())
		if v := w.State().Versions; v.Timestamp != 2 {
			t.Fatalf("expected a new timestamp at once, got %v", v)
		}
		stop := w.running()
		defer stop()
		time.Sleep(2 * time.Hour)
		if v := w.State().Versions; v.Timestamp != 2 {
			t.Fatalf("expected no second one, got %v", v)
		}
	})
}

func TestRunTriesAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var broken atomic.Bool
		var tries atomic.Int64
		w.close()
		w.fs = disk.FS{Hook: func(op disk.Op, path string) (bool, error) {
			if broken.Load() && op == disk.OpCreate && strings.HasSuffix(path, trust.TimestampName) {
				tries.Add(1)
				return false, testworld.ErrCrash
			}
			return true, nil
		}}
		w.open()
		stop := w.running()
		defer stop()
		broken.Store(true)
		time.Sleep(trust.TimestampLife/2 + 2*time.Hour)
		if n := tries.Load(); n < 20 || n > 60 {
			t.Fatalf("expected a try every five minutes at last, got %d", n)
		}
		if h := w.Health(time.Now()); len(h) != 0 {
			t.Fatalf("expected no warning yet, got %v", h)
		}
		time.Sleep(6 * time.Hour)
		if h := w.Health(time.Now()); len(h) != 1 || h[0].Subject != "renewal" || !h[0].Urgent || !strings.Contains(h[0].Text, testworld.ErrCrash.Error()) {
			t.Fatalf("expected a warning with the reason, got %v", h)
		}
		broken.Store(false)
		time.Sleep(10 * time.Minute)
		if h := w.Health(time.Now()); len(h) != 0 || w.State().Timestamp != 3 {
			t.Fatalf("expected timestamp 3 and no warning, got %d and %v", w.State().Timestamp, h)
		}
	})
}

// TestRunMindsItsClock sets the clock back by ten years, and ahead by ten.
func TestRunMindsItsClock(t *testing.T) {
	for what, off := range map[string]time.Duration{"behind": -3650 * days, "ahead": 3650 * days} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				var shift atomic.Int64
				w.now = func() time.Time { return time.Now().Add(time.Duration(shift.Load())) }
				stop := w.running()
				defer stop()
				shift.Store(int64(off))
				before := w.State().Timestamp
				time.Sleep(4 * days)
				if now := w.State().Timestamp; now != before {
					t.Fatalf("expected timestamp %d to stay, got %d", before, now)
				}
				if h := w.Health(w.now()); !slices.ContainsFunc(h, func(w status.Warning) bool { return w.Urgent }) {
					t.Fatalf("expected an urgent warning, got %v", h)
				}
				shift.Store(0)
				time.Sleep(2 * time.Hour)
				if now := w.State().Timestamp; now != before+1 {
					t.Fatalf("expected timestamp %d, got %d", before+1, now)
				}
			})
		})
	}
}

func TestClockBehind(t *testing.T) {
	w := newWorld(t)
	out := w.send(w.list(w.releases, one), origin.StatusStaged)
	must(t, w.upload(out))
	w.at(day.Add(-time.Hour))
	_, err := w.Commit(t.Context(), out.ID)
	wantErr(t, err, origin.ErrAhead)
	w.wantListed()
	w.at(day.Add(-time.Minute))
	_, err = w.Commit(t.Context(), out.ID)
	must(t, err)
	w.wantListed(one)
}

func TestRunDropsAndCollects(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.publish(one)
		stop := w.running()
		defer stop()
		out := w.send(w.list(w.releases, two), origin.StatusStaged)
		must(t, w.upload(out))
		time.Sleep(7*days - 2*time.Hour)
		w.wantKept([]int64{3}, nil)
		time.Sleep(4 * time.Hour)
		w.wantKept(nil, nil)
		_, err := w.Commit(t.Context(), out.ID)
		wantErr(t, err, origin.ErrNotFound)
		w.publish(three)
		w.wantListed(one, three)
	})
}

// TestGCSparesStaged collects withdrawn archives, of which a staged list wants one again.
func TestGCSparesStaged(t *testing.T) {
	w := newWorld(t)
	w.now = time.Now // as the files
	w.publish(one, two)
	e := w.edit()
	must(t, errors.Join(e.Withdraw(name(one)), e.Withdraw(name(two))))
	p, err := e.Sign(t.Context(), w.releases[0])
	must(t, err)
	w.finish(w.send(p, origin.StatusStaged))
	w.publish(three)
	w.publish(big)
	w.close()
	w.grace, w.change = time.Nanosecond, func(c *origin.Config) { c.GCEvery = time.Nanosecond }
	w.open()
	out := w.send(w.list(w.releases, one), origin.StatusStaged)
	if len(out.Archives) != 0 {
		t.Fatalf("expected the archive to be there still, got %+v", out.Archives)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	for deadline := time.Now().Add(testworld.Patience); slices.ContainsFunc(w.files(), func(f string) bool {
		return strings.HasSuffix(f, update.Sum(content(two)).String())
	}); {
		if time.Now().After(deadline) {
			t.Fatal("the archive that nobody wants is still there")
		}
		runtime.Gosched()
	}
	cancel()
	wantErr(t, <-done, context.Canceled)
	w.finish(out)
	w.wantListed(one, three, big)
}

// TestCollectsAcrossRestarts restarts an origin more often than it collects.
func TestCollectsAcrossRestarts(t *testing.T) {
	w := newWorld(t)
	shift := time.Duration(0)
	w.now = func() time.Time { return time.Now().Add(shift) } // as the files
	w.grace = time.Hour
	w.publish(one, two)
	e := w.edit()
	must(t, e.Withdraw(name(two)))
	p, err := e.Sign(t.Context(), w.releases[0])
	must(t, err)
	w.finish(w.send(p, origin.StatusStaged))
	for range 5 {
		w.restart()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		for w.s.GCDue(24 * time.Hour) {
			runtime.Gosched()
		}
		cancel()
		wantErr(t, <-done, context.Canceled)
		if shift += 13 * time.Hour; !w.has(two) {
			return
		}
	}
	t.Error("the archive was withdrawn days ago, and is still there")
}

// TestCollectsForRoom withdraws an archive, and sends a list for which the disk has no room: the archive goes as
// soon as no list that is served names it, within its grace period.
func TestCollectsForRoom(t *testing.T) {
	w := newWorld(t)
	shift := time.Duration(0)
	w.now = func() time.Time { return time.Now().Add(shift) }
	w.publish(big)
	e := w.edit()
	must(t, e.Withdraw(name(big)))
	p, err := e.Sign(t.Context(), w.releases[0])
	must(t, err)
	w.finish(w.send(p, origin.StatusStaged))
	w.store = func(c *store.Config) { c.Reserve = 1 << 50 }
	w.restart()
	for _, want := range []bool{true, false} {
		_, err := w.Propose(t.Context(), trust.RoleTargets, w.list(w.releases, one).Raw())
		wantErr(t, err, disk.ErrNoSpace)
		if there := w.has(big); there != want {
			t.Errorf("after %v: it is there: %t", shift, there)
		}
		shift = 2 * time.Hour
	}
}

// has reports whether the store has the archive of a name.
func (w *world) has(name string) bool {
	digest := update.Sum(content(name))
	return slices.ContainsFunc(w.files(), func(f string) bool { return strings.HasSuffix(f, digest.String()) })
}

func TestHealth(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		after  time.Duration
		want   []string
		urgent bool
	}{
		{0, nil, false},
		{trust.TimestampLife / 2, nil, false},
		{trust.TimestampLife/2 + 7*time.Hour, []string{"renewal"}, true},
		{trust.RootLife - 61*days, nil, false},
		{trust.RootLife - 59*days, []string{"root", "targets"}, false},
		{trust.RootLife - 13*days, []string{"root", "targets"}, true},
		{trust.RootLife + days, []string{"root", "targets"}, true},
		{-time.Hour, []string{"clock"}, true},
	} {
		at := day.Add(c.after)
		if c.after > 30*days {
			w.at(at)
			w.change = func(c *origin.Config) { c.ClockChecked = at }
			w.restart()
			must(t, w.Renew(t.Context()))
		}
		var got []string
		for _, h := range w.Health(at) {
			got = append(got, h.Subject)
			if h.Urgent != c.urgent || h.Text == "" || strings.Contains(h.Text, "\n") {
				t.Errorf("after %v: expected urgent %v and one line, got %+v", c.after, c.urgent, h)
			}
		}
		if c.after < 0 {
			got = slices.DeleteFunc(got, func(s string) bool { return s == "renewal" })
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("after %v: expected %v, got %v", c.after, c.want, got)
		}
	}
}

// TestRenewsWithoutAnArchive removes an archive: the others must not expire with it, and whoever looks at
// the health reads which one is lost.
func TestRenewsWithoutAnArchive(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.publish(one, two)
		stop := w.running()
		defer stop()
		before := w.State().Versions
		hex := update.Sum(content(two)).String()
		blob := filepath.Join(w.dir, "sha256", hex[:2], hex)
		must(t, os.Remove(blob))
		time.Sleep(40 * days)
		must(t, w.s.Repository().Fresh(trust.Clock{Now: time.Now()}))
		if v := w.State().Versions; v.Targets != before.Targets || v.Snapshot < before.Snapshot+2 || v.Timestamp < before.Timestamp+10 {
			t.Fatalf("expected the same list renewed after %v, got %v", before, v)
		}
		w.wantWarning("archives", "1 that are listed can't be served, the first is "+two)
		// A new list needs all that it names, and brings the lost one back.
		out := w.send(w.list(w.releases, three), origin.StatusStaged)
		if len(out.Archives) != 2 {
			t.Fatalf("expected two archives to be asked for, got %+v", out.Archives)
		}
		_, err := w.Commit(t.Context(), out.ID)
		wantErr(t, err, store.ErrIncomplete)
		w.finish(out)
		w.wantListed(one, two, three)
		if h := w.Health(time.Now()); len(h) != 0 {
			t.Fatalf("expected no warning, got %v", h)
		}
	})
}

// wantWarning wants one warning, an urgent one.
func (w *world) wantWarning(subject, text string) {
	w.t.Helper()
	h := w.Health(w.now())
	if len(h) != 1 || h[0].Subject != subject || !h[0].Urgent || !strings.Contains(h[0].Text, text) {
		w.t.Fatalf("expected an urgent warning %q with %q, got %v", subject, text, h)
	}
}

// TestClockBehindAtStart starts where the clock has lost the time: what was accepted before is not lost.
func TestClockBehindAtStart(t *testing.T) {
	w := newWorldOf(t, 2, 2)
	w.send(w.list(w.releases[:1], one), origin.StatusPending) // gives way to the next
	root := w.root(w.roots[:1], func(e *trust.RootEdit) error { return nil })
	w.send(root, origin.StatusPending)
	complete := w.list(w.releases, big)
	must(t, w.upload(w.send(complete, origin.StatusStaged)))
	w.at(time.Unix(0, 0))
	w.restart()
	w.wantKept([]int64{3}, []int64{2})
	w.at(day.Add(time.Hour))
	out := w.send(complete, origin.StatusStaged)
	if len(out.Archives) != 1 || len(out.Archives[0].Missing) != 0 {
		t.Fatalf("expected all blocks to be there, got %+v", out.Archives)
	}
	w.finish(out)
	w.wantListed(big)
}
