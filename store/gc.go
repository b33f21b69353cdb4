package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
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
// archive open keeps it. Where there is no repository, nothing is removed.
func (s *Store) GC(ctx context.Context, o GC) (Collected, error) {
	s.committing.Lock()
	defer s.committing.Unlock()
	if err := s.writable(); err != nil && !o.DryRun {
		return Collected{}, fmt.Errorf("gc: %w", err)
	}
	out, err := s.collect(ctx, o)
	if err == nil && !o.DryRun {
		err = errors.Join(s.removeStale(), s.removeQuarantined())
	}
	if !o.DryRun {
		s.noteCollected(err == nil)
	}
	if err != nil {
		return out, fmt.Errorf("gc: %w", disk.AsNoSpace(err))
	}
	return out, nil
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
		return Collected{}, err
	}
	optional := s.current.Load().optional
	for d := range optional {
		delete(named, d)
	}
	before := s.c.Now().Add(-s.c.Grace)
	err = s.eachBlob(ctx, func(b blob) error {
		if named[b.digest] || o.Keep != nil && o.Keep(b.digest) || !b.changed.Before(before) || s.arriving(b.digest) {
			return nil
		}
		if !o.DryRun {
			if optional[b.digest] {
				s.unlinkDigest(b.digest)
			}
			// A list without an archive does no harm, and goes with the next GC.
			if removed, err := s.removeUnused(b.digest, s.blobPath(b.digest), s.blocksPath(b.digest)); !removed {
				return err
			}
		}
		if b.there {
			out.Digests = append(out.Digests, b.digest)
		}
		out.Bytes += b.bytes
		return nil
	})
	return out, err
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
		if err != nil || !changed(info).Before(before) {
			continue
		}
		if _, err := s.removeUnused(d, s.path(quarantineDir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) arriving(d update.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ingesting[d] != nil
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

// eachBlob calls f for each digest of which there is a file, ascending.
func (s *Store) eachBlob(ctx context.Context, f func(blob) error) error {
	dirs, err := disk.Glob(s.path(blobDir), "??")
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		blobs, err := readBlobs(dir)
		if err != nil {
			return err
		}
		for _, b := range blobs {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := f(b); err != nil {
				return err
			}
		}
	}
	return nil
}

// readBlobs lists a directory of blobs, ascending. What else is there is left out.
func readBlobs(dir string) ([]blob, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	byDigest := map[update.Digest]blob{}
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
		if at := changed(info); at.After(b.changed) {
			b.changed = at
		}
		byDigest[d] = b
	}
	out := make([]blob, 0, len(byDigest))
	for _, b := range byDigest {
		out = append(out, b)
	}
	slices.SortFunc(out, func(a, b blob) int { return bytes.Compare(a.digest[:], b.digest[:]) })
	return out, nil
}

func changed(info fs.FileInfo) time.Time {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return info.ModTime()
	}
	return time.Unix(int64(st.Ctim.Sec), int64(st.Ctim.Nsec))
}
