package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openpowerquality/box-update-server/internal/durable"
	"github.com/openpowerquality/box-update-server/update"
)

// scrubbing runs Scrub and returns what it found, and what stops it.
func scrubbing(t *testing.T, s *Store, every time.Duration) (found chan Problem, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	found, ended := make(chan Problem, 10), make(chan error)
	go func() { ended <- s.Scrub(ctx, every, func(p Problem) { found <- p }) }()
	return found, func() {
		cancel()
		wantErr(t, <-ended, context.Canceled)
	}
}

// TestScrub finds a byte that the disk changed within a pass, no sooner than it is paced, and has the archive out of the
// way, so that the damaged block alone has to come again.
func TestScrub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, s := newStore(t, small, large)
		rel := release(t, o.repo, large)
		spoil(t, s.blobPath(rel.Digest()))
		began := time.Now()
		found, stop := scrubbing(t, s, 30*24*time.Hour)
		p := <-found
		if p.Digest != rel.Digest() || !errors.Is(p.Err, ErrCorrupt) {
			t.Errorf("found %v, want %v damaged", p, rel.Name())
		}
		if _, err := s.Open(rel.Update()); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("it is served still: %v", err)
		}
		time.Sleep(31 * 24 * time.Hour)
		if got := s.Scrubbed(); got.Complete.Before(began) || got.Damaged != 1 {
			t.Errorf("after a month it says %+v, want a whole pass", got)
		}
		stop()
		mustDo(t, ingest(s, rel))
		o.check(s)
	})
}

// TestScrubGoesOn stops and opens the store again and again: a pass goes on where it was, and is over in time.
func TestScrubGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, s := newStore(t, small, large)
		read := map[int]bool{}
		for range 40 {
			_, stop := scrubbing(t, s, 30*24*time.Hour)
			time.Sleep(24 * time.Hour)
			stop()
			got := s.Scrubbed()
			if read[got.Block] = true; !got.Complete.IsZero() {
				return
			}
			mustClose(t, s)
			s = mustOpen(t, o.config(s.Dir()))
		}
		t.Errorf("no pass was over after 40 days, at blocks %v", read)
	})
}

// TestScrubWithADamagedPosition begins anew.
func TestScrubWithADamagedPosition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s := newStore(t, small)
		for _, p := range []string{s.path(scrubName), durable.CopyPath(s.path(scrubName))} {
			mustDo(t, os.WriteFile(p, []byte(`{"at":`), 0o600))
		}
		_, stop := scrubbing(t, s, time.Hour)
		time.Sleep(2 * time.Hour)
		stop()
		if got := s.Scrubbed(); got.Complete.IsZero() || got.At != (update.Digest{}) && got.Block > 1 {
			t.Errorf("it says %+v", got)
		}
	})
}
