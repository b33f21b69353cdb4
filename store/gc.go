package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// GC says what a garbage collection may remove.
type GC struct {
	DryRun bool // only report what would be removed

	// Keep, if not nil, reports which archives must stay although no metadata name them: those of a publish that is
	// not complete.
	Keep func(update.Digest) bool
}

// Collected is what GC removed, or would remove.
type Collected struct {
	Digests  []update.Digest // ascending
	Metadata []string        // names of superseded files
	Bytes    int64           // of all of them
}

// GC removes metadata that were superseded longer ago than Config.Superseded. It removes archives that no metadata in
// the store name, or that the current repository lists but does not keep, once the grace period has passed since they
// were withdrawn or last wanted by an Ingest. Archives that are arriving stay, and a reader that has an archive open
// can read it to its end. Without a repository nothing is removed. On an error, what was already removed is returned
// with it.
func (s *Store) GC(ctx context.Context, o GC) (Collected, error) {
	s.committing.Lock()
	defer s.committing.Unlock()
	if err := s.writable(); err != nil && !o.DryRun {
		return Collected{}, fmt.Errorf("gc: %w", err)
	}
	out, err := s.collect(ctx, o)
	if !o.DryRun {
		if err == nil {
			err = errors.Join(s.removeStaleParts(), s.removeQuarantined())
		}
		s.noteCollected(err == nil)
	}
	if err != nil {
		err = fmt.Errorf("gc: %w", err)
	}
	return out, err
}

// Superseded returns the superseded metadata that are still there and those that the next GC removes.
func (s *Store) Superseded() (trust.Superseded, error) {
	s.committing.Lock()
	defer s.committing.Unlock()
	return s.state.Prune(true)
}

func (s *Store) collect(ctx context.Context, o GC) (out Collected, err error) {
	if s.Repository() == nil {
		return Collected{}, nil
	}
	old, err := s.state.Prune(o.DryRun)
	out.Metadata, out.Bytes = old.Files, old.Bytes
	if err != nil {
		return out, err
	}
	named, err := s.named(old.Files)
	if err != nil {
		return out, err
	}
	for d := range s.current.Load().optional {
		delete(named, d)
	}
	blobs, err := s.blobs(ctx)
	if err != nil {
		return out, err
	}
	before := s.c.Now().Add(-s.c.Grace)
	for _, b := range blobs {
		if err := ctx.Err(); err != nil {
			return out, err
		}
		if named[b.digest] || o.Keep != nil && o.Keep(b.digest) || !b.changed.Before(before) || s.isIngesting(b.digest) {
			continue
		}
		if !o.DryRun {
			if removed, err := s.removeArchive(b.digest); err != nil {
				return out, err
			} else if !removed {
				continue
			}
		}
		if b.there {
			out.Digests = append(out.Digests, b.digest)
		}
		out.Bytes += b.bytes
	}
	return out, nil
}

// removeQuarantined removes damaged archives that nobody needs any more: those that are not missing and have been in
// quarantine for partLife.
func (s *Store) removeQuarantined() error {
	damaged, err := files(s.path(quarantineDir))
	if err != nil || len(damaged) == 0 {
		return err
	}
	missing, before := map[update.Digest]bool{}, s.c.Now().Add(-partLife)
	if repo := s.Repository(); repo != nil {
		for _, rel := range s.Missing(repo) {
			missing[rel.Digest()] = true
		}
	}
	for _, f := range damaged {
		if !f.isBlob() || missing[f.digest] || !f.changed().Before(before) {
			continue
		}
		if _, err := s.removeUnused(f.digest, f.path); err != nil {
			return err
		}
	}
	return nil
}

// named returns the digests that the current list names, and all stored lists except the files in but. There may be
// others among them.
func (s *Store) named(but []string) (map[update.Digest]bool, error) {
	out := map[update.Digest]bool{}
	for _, rel := range s.Repository().Releases() {
		out[rel.Digest()] = true
	}
	entries, err := os.ReadDir(s.path(metadataDir))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if role, _, ok := trust.ParseFileName(e.Name()); !ok || role != trust.RoleTargets || slices.Contains(but, e.Name()) {
			continue
		}
		raw, err := readUpTo(s.path(metadataDir, e.Name()), trust.MaxLength(trust.RoleTargets))
		if err != nil {
			return nil, err
		}
		for text := range bytes.SplitSeq(raw, []byte{'"'}) {
			if len(text) != 2*len(update.Digest{}) {
				continue
			}
			if d, err := update.ParseDigest(string(text)); err == nil {
				out[d] = true
			}
		}
	}
	return out, nil
}

// collectedName is the file that records when GC last succeeded.
const collectedName = "gc.json"

// collectAgain is the pause after a GC that failed.
const collectAgain = time.Hour

type collected struct {
	At time.Time `json:"collected"`
}

// GCDue reports whether GC is due: no process has run it with success for that long, or the recorded time is in the
// future. After a failure in this process it is due again after collectAgain, or after every if that is less.
func (s *Store) GCDue(every time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	due := func(at time.Time, after time.Duration) bool {
		since := s.c.Now().Sub(at)
		return since < 0 || since >= after
	}
	return due(s.collected, every) && due(s.notCollected, min(every, collectAgain))
}

// noteCollected records a run of GC now. After a failed run GC is due again after collectAgain, or at once in the
// next process. If a success can't be recorded on the disk, the next process runs GC once more.
func (s *Store) noteCollected(well bool) {
	at := s.c.Now()
	s.mu.Lock()
	if well {
		s.collected, s.notCollected = at, time.Time{}
	} else {
		s.notCollected = at
	}
	s.mu.Unlock()
	if well {
		s.writeNote(collectedName, collected{at})
	}
}
