package store

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

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
	room := Room{Free: space.Free - s.c.Reserve}
	blobs, err := s.blobs(ctx)
	if err != nil {
		return Room{}, err
	}
	for _, b := range blobs {
		room.Used += b.bytes
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
			room.Need += max(rel.Length()-parts[rel.Digest().String()+partSuffix], 0) + overhead(rel.Length())
		}
		seen[rel.Digest()] = true
	}
	return room, nil
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
