package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// GC says what to remove.
type GC struct {
	DryRun bool // only tell

	// Keep, if not nil, says which archives are spoken for although no metadata in force name them: those
	// of a publish that is not complete.
	Keep func(update.Digest) bool
}

// Collected is what GC removed, or would remove.
type Collected struct {
	Digests  []update.Digest // ascending
	Metadata []string        // names of superseded files
	Bytes    int64           // of all of them
}

// GC removes the metadata that were superseded for Config.Superseded, and the archives that no metadata in the
// store name any more and that are not arriving, once they were withdrawn, or last wanted by an Ingest, for the grace
// period; and so those that the current repository lists and that are not kept. A reader that has an
// archive open keeps it. Without a repository nothing is removed. On an error, what was already removed is returned with
// it.
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

// Superseded tells which metadata are still there that newer ones replaced, and which the next GC removes.
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
	optional := s.current.Load().optional
	for d := range optional {
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
			if optional[b.digest] {
				s.unlinkDigest(b.digest)
			}
			// A list without an archive does no harm, and goes with the next GC.
			removed, err := s.removeUnused(b.digest, s.blobPath(b.digest), s.blocksPath(b.digest))
			if err != nil {
				return out, err
			}
			if !removed {
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

// removeQuarantined removes damaged archives that are of no use any more.
func (s *Store) removeQuarantined() error {
	entries, err := os.ReadDir(s.path(quarantineDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	missing, before := map[update.Digest]bool{}, s.c.Now().Add(-partLife)
	if repo := s.Repository(); repo != nil {
		for _, rel := range s.Missing(repo) {
			missing[rel.Digest()] = true
		}
	}
	for _, e := range entries {
		d, err := update.ParseDigest(e.Name())
		if err != nil || missing[d] {
			continue
		}
		info, err := e.Info()
		if err != nil || !disk.StampOf(info).ChangeTime().Before(before) {
			continue
		}
		if _, err := s.removeUnused(d, s.path(quarantineDir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// named returns the digests that the current list and all stored ones but those files name, and maybe others.
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

// blob is what the store has of one digest.
type blob struct {
	digest  update.Digest
	there   bool      // else there is only a block list
	changed time.Time // when a file of it last got or lost a name
	bytes   int64     // of both files
}

// blobs lists what the store has, ascending by digest. What else lies there is left out.
func (s *Store) blobs(ctx context.Context) ([]blob, error) {
	dirs, err := disk.Glob(s.path(blobDir), "??")
	if err != nil {
		return nil, err
	}
	byDigest := map[update.Digest]blob{}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err := errors.Join(err, ctx.Err()); err != nil {
			return nil, err
		}
		for _, e := range entries {
			stem, isList := strings.CutSuffix(e.Name(), blocksSuffix)
			d, err := update.ParseDigest(stem)
			if err != nil || stem[:2] != filepath.Base(dir) {
				continue
			}
			info, err := e.Info()
			if err != nil || !info.Mode().IsRegular() {
				continue
			}
			b := byDigest[d]
			b.digest, b.there, b.bytes = d, b.there || !isList, b.bytes+info.Size()
			if at := disk.StampOf(info).ChangeTime(); at.After(b.changed) {
				b.changed = at
			}
			byDigest[d] = b
		}
	}
	return slices.SortedFunc(maps.Values(byDigest), func(a, b blob) int { return bytes.Compare(a.digest[:], b.digest[:]) }), nil
}

// collectedName is the file that says when GC was last.
const collectedName = "gc.json"

// collectAgain is the pause after a GC that failed.
const collectAgain = time.Hour

type collected struct {
	At time.Time `json:"collected"`
}

// GCDue reports whether GC was last run so long ago, by whatever process, or never, or at a time that the clock
// has not reached; and, where it failed last, whether that is a while ago.
func (s *Store) GCDue(every time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	due := func(at time.Time, after time.Duration) bool {
		since := s.c.Now().Sub(at)
		return since < 0 || since >= after
	}
	return due(s.collected, every) && due(s.notCollected, min(every, collectAgain))
}

// noteCollected remembers that GC is run now, and whether it succeeded: if not, it is due again after collectAgain, or
// at once in the next process. Where the disk does not take it, that one collects once more.
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
