package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// Kept returns the releases of a repository whose archives must be in place.
func (s *Store) Kept(r *trust.Repository) []trust.Release {
	if s.c.Kept == nil {
		return r.Releases()
	}
	return s.c.Kept(r)
}

// optional returns the digests of what a repository lists and is not kept.
func (s *Store) optional(r *trust.Repository) map[update.Digest]bool {
	out := map[update.Digest]bool{}
	if s.c.Kept == nil {
		return out
	}
	for _, rel := range r.Releases() {
		out[rel.Digest()] = true
	}
	for _, rel := range s.c.Kept(r) {
		delete(out, rel.Digest())
	}
	return out
}

// renewDropped begins the grace period of what was kept before a commit, and is listed but not kept now.
func (s *Store) renewDropped(before, now *trust.Repository) {
	optional := s.current.Load().optional
	if before == nil || len(optional) == 0 {
		return
	}
	for _, rel := range s.Kept(before) {
		if optional[rel.Digest()] {
			s.renew(rel)
		}
	}
}

// Room is how much there is, and how much fits. All numbers are bytes.
type Room struct {
	Used int64 // by archives, what has arrived of others, and what is in quarantine
	Free int64 // on the disk beside the reserve, negative where that is used up
	Need int64 // by the archives asked for, less what has arrived of them
}

// Room tells what archives that are to arrive need and what there is for them. Of archives with the
// same digest one counts.
func (s *Store) Room(ctx context.Context, wanted []trust.Release) (Room, error) {
	disk, err := s.free()
	if err != nil {
		return Room{}, err
	}
	room := Room{Free: disk}
	err = s.eachBlob(ctx, func(b blob) error {
		room.Used += b.bytes
		return nil
	})
	if err != nil {
		return Room{}, err
	}
	parts, err := s.allocated(stagingDir)
	if err != nil {
		return Room{}, err
	}
	lost, err := s.allocated(quarantineDir)
	if err != nil {
		return Room{}, err
	}
	for _, bytes := range []map[string]int64{parts, lost} {
		for _, n := range bytes {
			room.Used += n
		}
	}
	seen := map[update.Digest]bool{}
	for _, rel := range wanted {
		if !seen[rel.Digest()] && !s.Has(rel) {
			room.Need += max(rel.Length()-parts[rel.Digest().String()+partSuffix], 0) + listOverhead(rel)
		}
		seen[rel.Digest()] = true
	}
	return room, nil
}

// listOverhead is what an archive takes beside its bytes.
func listOverhead(rel trust.Release) int64 {
	return int64(update.BlockCount(rel.Length()))*int64(len(update.Digest{})) + fileOverhead
}

// free returns how many bytes the disk has beside the reserve.
func (s *Store) free() (int64, error) {
	space, err := disk.SpaceOf(s.c.Dir)
	return space.Free - s.c.Reserve, err
}

// allocated returns how many bytes of the disk each regular file in a directory takes.
func (s *Store) allocated(dir string) (map[string]int64, error) {
	entries, err := os.ReadDir(s.path(dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	out := map[string]int64{}
	for _, e := range entries {
		var st unix.Stat_t
		if unix.Lstat(s.path(dir, e.Name()), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG {
			const sector = 512
			out[e.Name()] = st.Blocks * sector
		}
	}
	return out, nil
}

// Salvage takes over the blocks that are right in what went to quarantine of the archive, so that the
// others alone have to come again, and returns how many. Nothing in quarantine is no error.
func (i *Ingest) Salvage(ctx context.Context) (int, error) {
	a := i.arrival
	f, err := openRegular(a.store.path(quarantineDir, a.rel.Digest().String()))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("salvage %v: %w", a.rel.Name(), err)
	}
	defer f.Close() // opened for reading
	taken := 0
	buf := make([]byte, min(update.BlockSize, a.rel.Length()))
	for _, n := range i.Missing() {
		if err := ctx.Err(); err != nil {
			return taken, err
		}
		p := buf[:a.blockLength(n)]
		if _, err := io.ReadFull(io.NewSectionReader(f, int64(n)*update.BlockSize, int64(len(p))), p); err != nil {
			continue // what can't be read has to come again
		}
		err := i.WriteBlock(n, p)
		if err != nil && !errors.Is(err, ErrCorrupt) {
			return taken, err
		}
		if err == nil {
			taken++
		}
	}
	return taken, nil
}
