package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sort"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// Room says how much space is used, free and needed, in bytes.
type Room struct {
	Used int64 // by archives, partials and files in quarantine
	Free int64 // beside the reserve; negative if the disk has less than that
	Need int64 // by the archives asked for, less what their partials have
}

// Room returns how much space the wanted archives need and how much there is for them. Archives with the same digest
// count once.
func (s *Store) Room(ctx context.Context, wanted []trust.Release) (Room, error) {
	space, err := disk.SpaceOf(s.c.Dir)
	if err != nil {
		return Room{}, err
	}
	blobs, err := s.blobs(ctx)
	if err != nil {
		return Room{}, err
	}
	staged, err := files(s.path(stagingDir))
	if err != nil {
		return Room{}, err
	}
	damaged, err := files(s.path(quarantineDir))
	if err != nil {
		return Room{}, err
	}
	room := Room{Free: space.Free - s.c.Reserve}
	for _, b := range blobs {
		room.Used += b.bytes
	}
	parts := map[update.Digest]int64{}
	for _, f := range slices.Concat(staged, damaged) {
		room.Used += disk.Allocated(f.info)
		if f.suffix == partSuffix {
			parts[f.digest] = disk.Allocated(f.info)
		}
	}
	seen := map[update.Digest]bool{}
	for _, rel := range wanted {
		if d := rel.Digest(); !seen[d] && !s.Has(rel) {
			room.Need += max(rel.Length()-parts[d], 0) + overhead(rel.Length())
		}
		seen[rel.Digest()] = true
	}
	return room, nil
}

// CheckRoom refuses, with disk.ErrNoSpace, archives for which the disk lacks room, or that would let the store grow
// beyond limit bytes; 0 is no limit.
func (s *Store) CheckRoom(ctx context.Context, wanted []trust.Release, limit int64) error {
	_, err := s.lack(ctx, wanted, limit)
	return err
}

// MakeRoom is CheckRoom, but first has Evict free what the archives lack. e.Bytes is ignored, and the archives
// themselves are kept.
func (s *Store) MakeRoom(ctx context.Context, wanted []trust.Release, limit int64, e Eviction) (Collected, error) {
	lack, err := s.lack(ctx, wanted, limit)
	if lack == 0 {
		return Collected{}, err
	}
	e.Bytes, e.Keep = lack, slices.Concat(e.Keep, wanted)
	got, evictErr := s.Evict(ctx, e)
	if err := s.CheckRoom(ctx, wanted, limit); err != nil {
		return got, errors.Join(err, evictErr)
	}
	if evictErr != nil {
		s.c.Logger.Warn("archives not removed", "err", evictErr)
	}
	return got, nil
}

// lack returns how many bytes archives lack on the disk, or below limit. If that is not 0, the error is disk.ErrNoSpace.
func (s *Store) lack(ctx context.Context, wanted []trust.Release, limit int64) (int64, error) {
	room, err := s.Room(ctx, wanted)
	if err != nil || room.Need == 0 {
		return 0, err
	}
	short, over := room.Need-room.Free, int64(0)
	if limit > 0 {
		over = room.Used + room.Need - limit
	}
	switch {
	case short > 0:
		err = fmt.Errorf("%w: %d archives need %d bytes in %s, and %d can be used: make room, or keep fewer updates",
			disk.ErrNoSpace, len(wanted), room.Need, s.c.Dir, max(room.Free, 0))
	case over > 0:
		err = fmt.Errorf("%w: %s has %d bytes of archives and would need %d more for %d archives, beyond its limit of %d: raise it, or keep fewer updates",
			disk.ErrNoSpace, s.c.Dir, room.Used, room.Need, len(wanted), limit)
	}
	return max(short, over, 0), err
}

// Eviction says what Evict may remove, and how much.
type Eviction struct {
	Bytes int64 // to be freed; Evict stops once this is reached

	// Unused is how long an archive must not have been used before it may be removed. If it is 0, archives that no
	// metadata name any more may be removed too, even within their grace period.
	Unused time.Duration

	Keep []trust.Release // archives that stay in any case

	// Damaged says that archives in quarantine are removed first, whatever Keep says. Only their intact blocks are of
	// use, and upstreams have these as well.
	Damaged bool
}

// Evict removes archives that are listed and not kept, and partials of such archives: what was fetched on demand is a
// cache. The archives used longest ago go first; before them, if e says so, those in quarantine. Archives that are
// kept, that e.Keep names, or that are arriving stay.
func (s *Store) Evict(ctx context.Context, e Eviction) (out Collected, err error) {
	s.committing.Lock()
	defer s.committing.Unlock()
	defer func() {
		if err != nil {
			err = fmt.Errorf("evict: %w", err)
		}
	}()
	if err := s.writable(); err != nil || s.Repository() == nil {
		return Collected{}, err
	}
	evictable, err := s.evictable(ctx, e)
	if err != nil {
		return Collected{}, err
	}
	for _, b := range evictable {
		if out.Bytes >= e.Bytes {
			break
		}
		var removed bool
		if b.damaged != "" {
			removed, err = s.removeUnused(b.digest, b.damaged) // spares one whose intact blocks are being salvaged
		} else {
			removed, err = s.removeArchive(b.digest, s.mapPath(b.digest), s.partPath(b.digest))
		}
		if err != nil {
			return out, err
		}
		if removed {
			out.Digests, out.Bytes = append(out.Digests, b.digest), out.Bytes+b.bytes
		}
	}
	return out, nil
}

// evictable returns what may be removed: damaged archives, then archives and partials, the one used longest ago first.
func (s *Store) evictable(ctx context.Context, e Eviction) ([]blob, error) {
	named, err := s.named(nil)
	if err != nil {
		return nil, err
	}
	all, err := s.blobs(ctx)
	if err != nil {
		return nil, err
	}
	staged, err := files(s.path(stagingDir))
	if err != nil {
		return nil, err
	}
	quarantined, err := files(s.path(quarantineDir))
	if err != nil {
		return nil, err
	}
	for _, f := range staged {
		if f.suffix == partSuffix {
			all = append(all, blob{digest: f.digest, changed: f.info.ModTime(), bytes: disk.Allocated(f.info)})
		}
	}
	keep := map[update.Digest]bool{}
	for _, rel := range e.Keep {
		keep[rel.Digest()] = true
	}
	optional, before := s.current.Load().optional, s.c.Now().Add(-e.Unused)
	all = slices.DeleteFunc(all, func(b blob) bool {
		unnamed := b.there && !named[b.digest]
		return keep[b.digest] || e.Unused > 0 && b.changed.After(before) ||
			!optional[b.digest] && (e.Unused > 0 || !unnamed)
	})
	sort.SliceStable(all, func(i, j int) bool { return all[i].changed.Before(all[j].changed) })
	var damaged []blob
	for _, f := range quarantined {
		if e.Damaged && f.isBlob() {
			damaged = append(damaged, blob{digest: f.digest, bytes: disk.Allocated(f.info), damaged: f.path})
		}
	}
	return append(damaged, all...), nil
}

// usedEvery is the precision with which the last use of an archive that is not kept is recorded.
const usedEvery = 10 * time.Minute

// recordUse records that an archive that is not kept was used. The record outlives a restart.
func (s *Store) recordUse(f *os.File, d update.Digest) {
	if s.lock == nil || !s.current.Load().optional[d] {
		return
	}
	if stamp, err := disk.StampOpen(f); err == nil && s.c.Now().Sub(stamp.ChangeTime()) >= usedEvery {
		s.touch(d)
	}
}
