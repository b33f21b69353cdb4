package store

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/update"
)

const (
	blobDir       = "sha256"
	targetsDir    = "targets"
	metadataDir   = "metadata"
	stagingDir    = "staging"
	quarantineDir = "quarantine"

	blocksSuffix = ".blocks"
	partSuffix   = ".part"
	mapSuffix    = ".map"
)

func (s *Store) path(parts ...string) string {
	return filepath.Join(append([]string{s.c.Dir}, parts...)...)
}

func (s *Store) blobPath(d update.Digest) string {
	hex := d.String()
	return s.path(blobDir, hex[:2], hex)
}

func (s *Store) blocksPath(d update.Digest) string { return s.blobPath(d) + blocksSuffix }
func (s *Store) partPath(d update.Digest) string   { return s.path(stagingDir, d.String()+partSuffix) }
func (s *Store) mapPath(d update.Digest) string    { return s.path(stagingDir, d.String()+mapSuffix) }

// file is a regular file in a directory of the store.
type file struct {
	path   string
	digest update.Digest // at the beginning of its name; zero if there is none
	suffix string        // what follows the digest
	info   fs.FileInfo
}

func (f file) isBlob() bool       { return !f.digest.IsZero() && f.suffix == "" }
func (f file) changed() time.Time { return disk.StampOf(f.info).ChangeTime() }

// files lists the regular files in a directory, ascending by name. A directory that is missing has none.
func files(dir string) ([]file, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var out []file
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		f := file{path: filepath.Join(dir, e.Name()), info: info}
		stem, _, _ := strings.Cut(e.Name(), ".")
		if d, err := update.ParseDigest(stem); err == nil {
			f.digest, f.suffix = d, e.Name()[len(stem):]
		}
		out = append(out, f)
	}
	return out, nil
}

// blob is what the store has of one digest.
type blob struct {
	digest  update.Digest
	there   bool      // the archive is there; else there is only a block list, or only a part
	changed time.Time // the latest change time of its files
	bytes   int64     // of all of them
	damaged string    // its path in quarantine; else ""
}

// blobs lists the archives and block lists in the store, ascending by digest. Other files are ignored.
func (s *Store) blobs(ctx context.Context) ([]blob, error) {
	dirs, err := disk.Glob(s.path(blobDir), "??")
	if err != nil {
		return nil, err
	}
	byDigest := map[update.Digest]blob{}
	for _, dir := range dirs {
		stored, err := files(dir)
		if err := errors.Join(err, ctx.Err()); err != nil {
			return nil, err
		}
		for _, f := range stored {
			if f.suffix != "" && f.suffix != blocksSuffix || filepath.Dir(s.blobPath(f.digest)) != dir {
				continue
			}
			b := byDigest[f.digest]
			b.digest, b.there, b.bytes = f.digest, b.there || f.isBlob(), b.bytes+f.info.Size()
			if at := f.changed(); at.After(b.changed) {
				b.changed = at
			}
			byDigest[f.digest] = b
		}
	}
	all := slices.Collect(maps.Values(byDigest))
	// slices.SortFunc would make boxup larger.
	sort.Slice(all, func(i, j int) bool { return bytes.Compare(all[i].digest[:], all[j].digest[:]) < 0 })
	return all, nil
}

// removeUnused removes the files of an archive at those paths, unless the archive is arriving now. It stops at the
// first error.
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

// removeArchive removes an archive that is not kept, its block list, its paths and those other files, unless it is
// arriving now. A path of a withdrawn archive may be left, where Commit could not remove it, and would keep its bytes on
// the disk. A block list that is left without its archive does no harm; the next GC removes it.
func (s *Store) removeArchive(d update.Digest, others ...string) (removed bool, err error) {
	s.unlinkDigest(d)
	return s.removeUnused(d, append([]string{s.blobPath(d), s.blocksPath(d)}, others...)...)
}

// maxNote bounds the length of a note in bytes.
const maxNote = 4096

// readNote returns what an earlier process noted, the zero value if there is nothing or it can't be read.
func readNote[T any](s *Store, name string) T {
	v, damage, err := disk.ReadJSON[T](s.path(name), maxNote)
	if err = errors.Join(err, damage); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.c.Logger.Warn("the disk damaged a file, which is written again", "err", err)
	}
	return v
}

// writeNote stores a note for the next process. If that fails it is logged at most: the next process works without
// it.
func (s *Store) writeNote(name string, v any) {
	if err := s.c.FS.WriteJSON(s.path(name), v, 0o644); err != nil {
		s.c.Logger.Warn("a note for the next process is not written", "file", name, "err", err)
	}
}
