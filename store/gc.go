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
	Digests []update.Digest // ascending
	Bytes   int64
}

// GC removes the archives that no metadata in the store names, neither the current nor the one before
// it, once they were withdrawn for the grace period. A reader that has an archive open keeps it.
func (s *Store) GC(ctx context.Context, o GC) (Collected, error) {
	if err := s.writable(); err != nil && !o.DryRun {
		return Collected{}, err
	}
	s.committing.Lock()
	defer s.committing.Unlock()
	named, err := s.lists()
	if err != nil {
		return Collected{}, fmt.Errorf("gc: %w", err)
	}
	var out Collected
	before := s.c.Now().Add(-s.c.Grace)
	err = s.eachBlob(ctx, func(d update.Digest, info fs.FileInfo) error {
		if named.has(d) || o.Keep != nil && o.Keep(d) || !changed(info).Before(before) {
			return nil
		}
		out.Digests = append(out.Digests, d)
		out.Bytes += info.Size()
		if o.DryRun {
			return nil
		}
		return s.drop(d)
	})
	if err != nil {
		return out, fmt.Errorf("gc: %w", err)
	}
	slices.SortFunc(out.Digests, func(a, b update.Digest) int { return bytes.Compare(a[:], b[:]) })
	if o.DryRun {
		return out, nil
	}
	return out, s.removeStale(s.c.Now().Add(-partLife))
}

// drop removes an archive, its block list last: a list without an archive does no harm.
func (s *Store) drop(d update.Digest) error {
	return errors.Join(s.c.FS.Remove(s.blobPath(d)), s.c.FS.Remove(s.blocksPath(d)))
}

// changed returns when the file last got or lost a name.
func changed(info fs.FileInfo) time.Time {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return info.ModTime()
	}
	return time.Unix(int64(st.Ctim.Sec), int64(st.Ctim.Nsec))
}

// lists are the targets files that are kept, as they were signed.
type lists [][]byte

func (l lists) has(d update.Digest) bool {
	hex := []byte(d.String())
	return slices.ContainsFunc(l, func(raw []byte) bool { return bytes.Contains(raw, hex) })
}

func (s *Store) lists() (lists, error) {
	entries, err := os.ReadDir(s.path(metadataDir))
	if err != nil {
		return nil, err
	}
	var out lists
	for _, e := range entries {
		if role, _, ok := trust.ParseFileName(e.Name()); !ok || role != trust.RoleTargets {
			continue
		}
		raw, err := readUpTo(s.path(metadataDir, e.Name()), trust.MaxLength(trust.RoleTargets))
		if err != nil {
			return nil, err
		}
		out = append(out, raw)
	}
	return out, nil
}

// eachBlob calls f for each archive in the store.
func (s *Store) eachBlob(ctx context.Context, f func(update.Digest, fs.FileInfo) error) error {
	paths, err := filepath.Glob(s.path(blobDir, "??", "*"))
	if err != nil {
		return err
	}
	for _, path := range paths {
		if err := ctx.Err(); err != nil {
			return err
		}
		d, err := update.ParseDigest(filepath.Base(path))
		if err != nil || !strings.HasPrefix(d.String(), filepath.Base(filepath.Dir(path))) {
			continue
		}
		info, err := os.Lstat(path)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		if err := f(d, info); err != nil {
			return err
		}
	}
	return nil
}
