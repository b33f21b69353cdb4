package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/update"
)

// usedEvery is the precision with which the last use of an archive that is not kept is recorded.
const usedEvery = 10 * time.Minute

// Eviction says what Evict may remove, and how much.
type Eviction struct {
	Bytes int64 // to be freed; Evict stops once this is reached

	// Unused is how long an archive must not have been used before it may be removed. If it is 0, archives that no
	// metadata name any more may be removed too, even within their grace period.
	Unused time.Duration

	Keep func(update.Digest) bool // which must stay in any case; nil: none

	// Damaged says that archives in quarantine are removed first, whatever Keep says. Only their intact blocks are of
	// use, and upstreams have these as well.
	Damaged bool
}

// Evict removes archives that are listed and not kept, and partials of such archives: what was fetched on demand is a
// cache. The archives used longest ago go first; before them, if e says so, those in quarantine. Archives that are
// kept, that e.Keep names, or that are arriving stay.
func (s *Store) Evict(ctx context.Context, e Eviction) (Collected, error) {
	s.committing.Lock()
	defer s.committing.Unlock()
	if err := s.writable(); err != nil {
		return Collected{}, fmt.Errorf("evict: %w", err)
	}
	out, err := s.evict(ctx, e)
	if err != nil {
		return out, fmt.Errorf("evict: %w", err)
	}
	return out, nil
}

func (s *Store) evict(ctx context.Context, e Eviction) (out Collected, err error) {
	if s.Repository() == nil {
		return Collected{}, nil
	}
	if e.Damaged {
		if out, err = s.evictDamaged(e.Bytes); err != nil {
			return out, err
		}
	}
	named, err := s.named(nil)
	if err != nil {
		return out, err
	}
	optional := s.current.Load().optional
	before := s.c.Now().Add(-e.Unused)
	may := func(b blob) bool {
		if e.Keep != nil && e.Keep(b.digest) || b.changed.After(before) && e.Unused > 0 {
			return false
		}
		return optional[b.digest] || e.Unused == 0 && b.there && !named[b.digest]
	}
	all, err := s.blobs(ctx)
	if err != nil {
		return out, err
	}
	parts, err := s.partBlobs()
	if err != nil {
		return out, err
	}
	all = slices.DeleteFunc(append(all, parts...), func(b blob) bool { return !may(b) })
	slices.SortStableFunc(all, func(a, b blob) int { return a.changed.Compare(b.changed) })
	for _, b := range all {
		if out.Bytes >= e.Bytes {
			break
		}
		s.unlinkDigest(b.digest)
		stem := s.path(stagingDir, b.digest.String())
		removed, err := s.removeUnused(b.digest, s.blobPath(b.digest), s.blocksPath(b.digest), stem+mapSuffix, stem+partSuffix)
		if err != nil {
			return out, err
		}
		if removed {
			out.Digests, out.Bytes = append(out.Digests, b.digest), out.Bytes+b.bytes
		}
	}
	return out, nil
}

// evictDamaged removes archives in quarantine until so many bytes are free. It spares an archive that is arriving,
// because its intact blocks are being salvaged.
func (s *Store) evictDamaged(need int64) (out Collected, err error) {
	sizes, err := s.allocated(quarantineDir)
	if err != nil {
		return Collected{}, err
	}
	for name, bytes := range sizes {
		d, err := update.ParseDigest(name)
		if err != nil || out.Bytes >= need {
			continue
		}
		removed, err := s.removeUnused(d, s.path(quarantineDir, name))
		if err != nil {
			return out, err
		}
		if removed {
			out.Digests, out.Bytes = append(out.Digests, d), out.Bytes+bytes
		}
	}
	return out, nil
}

// partBlobs returns the partials in staging.
func (s *Store) partBlobs() (out []blob, err error) {
	sizes, err := s.allocated(stagingDir)
	if err != nil {
		return nil, err
	}
	for name, bytes := range sizes {
		d, ok := parsePartName(name)
		info, err := os.Lstat(s.path(stagingDir, name))
		if ok && err == nil && strings.HasSuffix(name, partSuffix) {
			out = append(out, blob{digest: d, changed: info.ModTime(), bytes: bytes})
		}
	}
	return out, nil
}

// used records that an archive that is not kept was used. The record is the file's change time, which outlives a
// restart.
func (s *Store) used(f *os.File, d update.Digest) {
	if s.lock == nil || !s.current.Load().optional[d] {
		return
	}
	stamp, err := disk.StampOpen(f)
	if err != nil || s.c.Now().Sub(stamp.ChangeTime()) < usedEvery {
		return
	}
	if err := os.Chmod(s.blobPath(d), 0o444); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.c.Logger.Warn("use of an archive not noted", "digest", d.String(), "err", err)
	}
}
