package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

const (
	partSuffix = ".part"
	mapSuffix  = ".map"

	// partLife is how long a part is kept that nobody goes on with.
	partLife = 7 * 24 * time.Hour

	// fileOverhead is what is set aside for the block list and the map beside their bytes, in bytes.
	fileOverhead = 64 << 10
)

// openPart opens a part for writing, making it if it is missing. What is there and is not a regular file
// with one name, and so none that a store made, is removed.
func openPart(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if errors.Is(err, fs.ErrPermission) {
		// A crash came between its last mode and its name.
		if err := makeWritable(path); err != nil {
			return nil, err
		}
		f, err = os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	}
	if err == nil {
		if isPart(f) {
			return f, nil
		}
		f.Close()
	} else if !errors.Is(err, unix.ELOOP) {
		return nil, err
	}
	if err := os.Remove(path); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
}

func isPart(f *os.File) bool {
	var st unix.Stat_t
	err := unix.Fstat(int(f.Fd()), &st)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Nlink == 1
}

func makeWritable(path string) error {
	f, err := openRegular(path)
	if err != nil {
		return err
	}
	defer f.Close() // opened for reading
	return f.Chmod(0o600)
}

// allocate gives the part its length and its space: a disk that is too full says so now and not after
// the transfer. A part of another length has lost its blocks. The caller holds a.mu.
func (a *arrival) allocate() error {
	info, err := a.file.Stat()
	if err != nil {
		return err
	}
	if info.Size() != a.rel.Length() {
		a.forget(newBitmap(len(a.blocks)))
		// A map that outlives its blocks would speak of others.
		if err := a.removeMap(); err != nil {
			return err
		}
		if err := errors.Join(a.file.Truncate(0), a.file.Truncate(a.rel.Length())); err != nil {
			return disk.AsNoSpace(err)
		}
	}
	if err := a.checkRoom(); err != nil {
		return err
	}
	err = fallocate(a.file, a.rel.Length())
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return nil // then a block may find the disk full
	}
	if err != nil {
		return fmt.Errorf("set %d bytes aside: %w", a.rel.Length(), disk.AsNoSpace(err))
	}
	return nil
}

// checkRoom refuses an archive that would not fit, or would not leave the reserve.
func (a *arrival) checkRoom() error {
	var part unix.Stat_t
	if err := unix.Fstat(int(a.file.Fd()), &part); err != nil {
		return fmt.Errorf("part: %w", err)
	}
	const sector = 512
	need := max(a.rel.Length()-part.Blocks*sector, 0) + int64(len(a.blocks)*len(update.Digest{})) + fileOverhead
	return disk.CheckSpace(a.store.c.Dir, need, a.store.c.Reserve)
}

// fallocate gives a file all its bytes on the disk.
func fallocate(f *os.File, length int64) error {
	if length == 0 {
		return nil
	}
	for {
		if err := unix.Fallocate(int(f.Fd()), 0, 0, length); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// startWriting lets the disk begin with bytes that are synced later. It is a hint alone.
func startWriting(f *os.File, offset, length int64) {
	_ = unix.SyncFileRange(int(f.Fd()), offset, length, unix.SYNC_FILE_RANGE_WRITE)
}

// renew begins the grace period of an archive that is in place, and wanted again, anew.
func (s *Store) renew(rel trust.Release) {
	err := os.Chmod(s.blobPath(rel.Digest()), 0o444) // which sets its time of change
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.c.Logger.Warn("grace period not renewed", "name", rel.Name().String(), "err", err)
	}
}

// removeTemps removes what crashed writes left, and parts that nobody has gone on with for a week.
func (s *Store) removeTemps(ctx context.Context) error {
	dirs, err := disk.Glob(s.path(blobDir), "??")
	if err != nil {
		return err
	}
	for _, dir := range append(dirs, s.path(stagingDir), s.path(metadataDir)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.c.FS.RemoveTemps(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return s.removeStale()
}

// removeStale removes the parts that nobody goes on with, and maps without a part. Other files in the directory are not
// ours to remove.
func (s *Store) removeStale() error {
	entries, err := os.ReadDir(s.path(stagingDir))
	if err != nil {
		return err
	}
	before := s.c.Now().Add(-partLife)
	for _, e := range entries {
		d, ok := partOf(e.Name())
		if !ok {
			continue
		}
		info, err := e.Info()
		if err != nil || info.ModTime().After(before) && !s.isOrphan(d, e.Name()) {
			continue
		}
		if _, err := s.removeUnused(d, s.path(stagingDir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// isOrphan reports whether the file is a map whose part is gone.
func (s *Store) isOrphan(d update.Digest, name string) bool {
	if !strings.HasSuffix(name, mapSuffix) {
		return false
	}
	_, err := os.Lstat(s.path(stagingDir, d.String()+partSuffix))
	return errors.Is(err, fs.ErrNotExist)
}

func partOf(name string) (update.Digest, bool) {
	stem, isPart := strings.CutSuffix(name, partSuffix)
	stem, isMap := strings.CutSuffix(stem, mapSuffix)
	d, err := update.ParseDigest(stem)
	return d, err == nil && isPart != isMap
}

// removeUnused removes files of an archive, unless it is arriving now; the first error ends it.
func (s *Store) removeUnused(d update.Digest, paths ...string) (removed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ingesting[d] != nil {
		return false, nil
	}
	for _, path := range paths {
		if err := s.c.FS.Remove(path); err != nil {
			return false, err
		}
	}
	return true, nil
}
