package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openpowerquality/box-update-server/internal/disk"
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

// TestUnreadableArchive has an archive out of the way that the disk can't give back, whatever the file system calls that, so
// that it is fetched again.
func TestUnreadableArchive(t *testing.T) {
	for _, fault := range []error{unix.EIO, unix.EUCLEAN, unix.EBADMSG} {
		o, s := newStore(t, small)
		rel := release(t, o.repo, small)
		f, err := s.Open(rel.Update())
		mustDo(t, err)
		wantErr(t, s.quarantineDamaged(rel.Digest(), f, fmt.Errorf("block 0: %w", fault)), fault)
		mustDo(t, f.Close())
		if _, err := s.Open(rel.Update()); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("after %v it is served still: %v", fault, err)
		}
	}
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
		for _, p := range []string{s.path(scrubName), disk.CopyPath(s.path(scrubName))} {
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

// TestScrubReadsAgain: an archive that the disk can't read for a moment stays, and one that it can't read twice goes to
// quarantine, and comes back before the next pass if it reads right then.
func TestScrubReadsAgain(t *testing.T) {
	for what, faults := range map[string]int{"a moment": 1, "long": 2} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o, s := newStore(t, small, large)
				rel, left := release(t, o.repo, large), faults
				s.readFromDisk = func(f *os.File, b []byte, off int64) error {
					if f.Name() == s.blobPath(rel.Digest()) && left > 0 {
						left--
						return &fs.PathError{Op: "read", Path: f.Name(), Err: unix.EIO}
					}
					return readFromDisk(f, b, off)
				}
				found, stop := scrubbing(t, s, time.Hour)
				if faults > 1 {
					if p := <-found; p.Digest != rel.Digest() || !errors.Is(p.Err, unix.EIO) || s.hasBlob(rel) {
						t.Errorf("found %v, expected %v out of the way", p, rel.Name())
					}
				}
				time.Sleep(2 * time.Hour)
				stop()
				if left > 0 || len(found) > 0 {
					t.Errorf("%d problems more, %d faults not met", len(found), left)
				}
				o.check(s)
			})
		})
	}
}

// TestCheckRestores what is in quarantine and reads right, and leaves there what does not.
func TestCheckRestores(t *testing.T) {
	o, s := newStore(t, small, large)
	for _, name := range []string{small, large} {
		d := release(t, o.repo, name).Digest()
		info, err := os.Lstat(s.blobPath(d))
		mustDo(t, err)
		mustDo(t, s.quarantine(d, info))
	}
	damaged := release(t, o.repo, small)
	spoil(t, s.path(quarantineDir, damaged.Digest().String()))
	problems, err := s.Check(t.Context(), Check{Hash: true, Quarantine: true})
	mustDo(t, err)
	if len(problems) != 1 || problems[0].Digest != damaged.Digest() {
		t.Errorf("found %v, expected that %v is missing alone", problems, damaged.Name())
	}
	mustDo(t, ingest(s, damaged))
	o.check(s)
}

// TestFailedGCIsDueAgain after a while, and not after the whole interval.
func TestFailedGCIsDueAgain(t *testing.T) {
	_, s := newStore(t, small)
	now := time.Now()
	s.c.Now = func() time.Time { return now }
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.GC(ended, GC{}); err == nil || s.GCDue(24*time.Hour) {
		t.Fatalf("it is due at once: %v", err)
	}
	if now = now.Add(collectAgain); !s.GCDue(24 * time.Hour) {
		t.Error("it is not due after an hour")
	}
	_, err := s.GC(t.Context(), GC{})
	mustDo(t, err)
	if now = now.Add(23 * time.Hour); s.GCDue(24 * time.Hour) {
		t.Error("it is due although it succeeded")
	}
}
