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

// usedEvery is how exactly it is known when an archive that is not kept was used last.
const usedEvery = 10 * time.Minute

// Eviction says what is to make room.
type Eviction struct {
	Bytes int64 // that are needed; no more archives go than these take

	// Unused is for how long an archive was not used that may go. Where it is 0, so may those that no metadata
	// name any more, within their grace period.
	Unused time.Duration

	Keep func(update.Digest) bool // which stay in any case; nil: none

	// Damaged says that what is in quarantine goes first, whatever Keep says. Only its right blocks are of use, and
	// upstreams have these as well.
	Damaged bool
}

// Evict removes archives that are listed and not kept, and what has arrived of them: what came on demand is a
// cache. Those that were used longest ago go first, and before them what is in quarantine, if e says so. Nothing
// goes that is kept, spoken for, or arriving.
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

// evictDamaged removes archives in quarantine as far as so many bytes need. One that is arriving gives its right
// blocks just now, and stays.
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

// partBlobs returns what has arrived of archives that are not in place.
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

// used notes that an archive which is not kept was used. Its time of change says when: it outlives a restart.
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
