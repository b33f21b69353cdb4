package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/pace"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// Has reports whether the archive is in place with its length, in the store or elsewhere (Config.Elsewhere).
func (s *Store) Has(r trust.Release) bool {
	if s.hasBlob(r) {
		return true
	}
	f, err := s.openElsewhere(r.Update())
	if err != nil {
		return false
	}
	f.Close() // opened for reading
	return true
}

func (s *Store) hasBlob(r trust.Release) bool {
	info, err := os.Lstat(s.blobPath(r.Digest()))
	return err == nil && isArchive(info, r)
}

// isArchive reports whether a file is regular and has the length of the release's archive.
func isArchive(info fs.FileInfo, r trust.Release) bool {
	return info.Mode().IsRegular() && info.Size() == r.Length()
}

// Missing returns the releases of r that are kept and whose archives are not in place.
func (s *Store) Missing(r *trust.Repository) []trust.Release {
	var out []trust.Release
	for _, rel := range s.Kept(r) {
		if !s.Has(rel) {
			out = append(out, rel)
		}
	}
	return out
}

// lostAge is how old a result of Lost may be.
const lostAge = 30 * time.Second

// lost is what was missing of a repository at some time.
type lost struct {
	repo     *trust.Repository
	at       time.Time
	releases []trust.Release
}

// Lost returns what Missing returns, but up to lostAge old, for callers that ask often.
func (s *Store) Lost(repo *trust.Repository, at time.Time) []trust.Release {
	s.mu.Lock()
	last := s.lost
	s.mu.Unlock()
	if since := at.Sub(last.at); last.repo == repo && since >= 0 && since < lostAge {
		return last.releases
	}
	now := lost{repo, at, s.Missing(repo)}
	s.mu.Lock()
	s.lost = now
	s.mu.Unlock()
	return now.releases
}

// Subjects of warnings.
const (
	SubjectLost   = "archives" // archives that are listed are not in place
	SubjectDamage = "metadata" // the disk damaged a metadata file
)

// WarnOfLost returns a warning about the archives that are listed and not in place, none if all are there. advice
// says how to bring them back.
func (s *Store) WarnOfLost(repo *trust.Repository, at time.Time, advice string) []status.Warning {
	lost := s.Lost(repo, at)
	if len(lost) == 0 {
		return nil
	}
	return []status.Warning{{Subject: SubjectLost, Urgent: true, Advice: advice,
		Text: fmt.Sprintf("%d that are listed can't be served, the first is %v", len(lost), lost[0].Name())}}
}

// Open opens the archive of an update. The error is fs.ErrNotExist if it is not there, and ErrCorrupt if its length
// is wrong or it is not a regular file.
func (s *Store) Open(u update.Update) (*os.File, error) {
	f, err := openArchive(s.blobPath(u.Digest), u.Length)
	if err != nil {
		if f, elseErr := s.openElsewhere(u); elseErr == nil {
			return f, nil
		}
		return nil, fmt.Errorf("open %v: %w", u.Name, err)
	}
	s.recordUse(f, u.Digest)
	return f, nil
}

func (s *Store) openElsewhere(u update.Update) (*os.File, error) {
	if s.c.Elsewhere == nil {
		return nil, fs.ErrNotExist
	}
	f, ok := s.c.Elsewhere(u.Digest)
	if !ok {
		return nil, fs.ErrNotExist
	}
	return checkedArchive(f, u.Length)
}

func openArchive(path string, length int64) (*os.File, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	return checkedArchive(f, length)
}

// checkedArchive returns f if it has that length, else it closes f.
func checkedArchive(f *os.File, length int64) (*os.File, error) {
	info, err := f.Stat()
	if err == nil && info.Size() != length {
		err = fmt.Errorf("%s: %w: %d bytes, expected %d", f.Name(), ErrCorrupt, info.Size(), length)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// openRegular opens a file for reading, as disk.OpenRegular does. If it is not a regular file, the error is
// ErrCorrupt.
func openRegular(path string) (*os.File, error) {
	f, err := disk.OpenRegular(path)
	return f, asCorrupt(err)
}

// asCorrupt turns errors of package disk about files that this package would not have written into ErrCorrupt.
func asCorrupt(err error) error {
	if errors.Is(err, disk.ErrNotRegular) || errors.Is(err, disk.ErrTooLong) {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return err
}

// Blocks returns the block list of an update. The error is fs.ErrNotExist if the archive is not there. A list that is
// damaged, or was never stored because the archive is elsewhere, is computed from the archive. If the archive then
// turns out to be damaged, the error is ErrCorrupt and it goes to quarantine.
func (s *Store) Blocks(u update.Update) (update.Blocks, error) {
	repo := s.Repository()
	if repo == nil {
		return nil, fs.ErrNotExist
	}
	rel, ok := repo.Release(u.Name)
	if !ok || rel.Digest() != u.Digest {
		return nil, fs.ErrNotExist
	}
	if blocks, err := s.storedBlocks(rel); err == nil {
		return blocks, nil
	}
	s.hashing.Lock()
	defer s.hashing.Unlock()
	if blocks, err := s.storedBlocks(rel); err == nil {
		return blocks, nil
	}
	return s.computeBlocks(rel)
}

// storedBlocks reads a block list. The error is fs.ErrNotExist if it is not there, and ErrCorrupt if it is not the
// one that the metadata name.
func (s *Store) storedBlocks(rel trust.Release) (update.Blocks, error) {
	if one := (update.Blocks{rel.Digest()}); update.BlockCount(rel.Length()) == 1 && update.Sum(one.Bytes()) == rel.Blocks() {
		return one, nil
	}
	path := s.blocksPath(rel.Digest())
	raw, err := readUpTo(path, int64(update.BlockCount(rel.Length()))*int64(len(update.Digest{})))
	if err != nil {
		return nil, err
	}
	if got := update.Sum(raw); got != rel.Blocks() {
		return nil, fmt.Errorf("%s: %w: expected digest %v, got %v", path, ErrCorrupt, rel.Blocks(), got)
	}
	return update.ParseBlocks(raw, rel.Length())
}

func (s *Store) computeBlocks(rel trust.Release) (update.Blocks, error) {
	f, err := s.Open(rel.Update())
	if err != nil {
		return nil, err
	}
	defer f.Close() // opened for reading
	blocks, err := hashArchive(context.Background(), f, rel, nil)
	if errors.Is(err, ErrCorrupt) {
		return nil, s.quarantineDamaged(rel.Digest(), f, err)
	}
	if err != nil {
		return nil, err // an archive that can't be read now is judged by Scrub and Check, which read it again
	}
	if err := s.keepBlocks(rel.Digest(), blocks); err != nil && !errors.Is(err, ErrReadOnly) {
		s.c.Logger.Warn("block list not stored", "name", rel.Name().String(), "err", err)
	}
	return blocks, nil
}

// damagedOnDisk reports whether err says that an archive was damaged: its bytes differ, or the disk can't read them.
func damagedOnDisk(err error) bool { return errors.Is(err, ErrCorrupt) || status.Unreadable(err) }

// readAgain calls read and, if the disk can't be read, once more after the pause: a cable or a network that fails for
// a moment is no reason to take intact archives for damaged.
func (s *Store) readAgain(ctx context.Context, pause time.Duration, read func() error) error {
	err := read()
	if !errors.Is(err, syscall.EIO) {
		return err
	}
	s.c.Logger.Warn("archive can't be read, and is read again", "after", pause, "err", err)
	if err := pace.Sleep(ctx, pause); err != nil {
		return err
	}
	return read()
}

// quarantineDamaged moves an archive to quarantine if err says that it is damaged, and returns err.
func (s *Store) quarantineDamaged(d update.Digest, f *os.File, err error) error {
	if !damagedOnDisk(err) || s.writable() != nil {
		return err
	}
	info, statErr := f.Stat()
	if statErr != nil {
		return errors.Join(err, statErr)
	}
	return errors.Join(err, s.quarantine(d, info))
}

// hashArchive is trust.VerifyArchive, with ErrCorrupt for another archive.
func hashArchive(ctx context.Context, r io.Reader, rel trust.Release, read func(n int)) (update.Blocks, error) {
	blocks, err := trust.VerifyArchive(ctx, rel, r, read)
	if errors.Is(err, trust.ErrMismatch) {
		return nil, fmt.Errorf("%v: %w: %v", rel.Name(), ErrCorrupt, err)
	}
	if err != nil {
		return nil, fmt.Errorf("read %v: %w", rel.Name(), err)
	}
	return blocks, nil
}

// keepBlocks stores a block list of an archive that is in place.
func (s *Store) keepBlocks(d update.Digest, blocks update.Blocks) error {
	s.committing.Lock()
	defer s.committing.Unlock()
	if err := s.writable(); err != nil {
		return err
	}
	return s.putBlocks(d, blocks)
}

// putBlocks makes the directory of an archive and stores its block list there. The list of a single block is not
// stored: it is the digest of the archive.
func (s *Store) putBlocks(d update.Digest, blocks update.Blocks) error {
	if err := s.makeBlobDir(filepath.Dir(s.blocksPath(d))); err != nil {
		return err
	}
	if len(blocks) == 1 {
		return nil
	}
	return s.c.FS.WriteFile(s.blocksPath(d), blocks.Bytes(), 0o444)
}

// makeBlobDir makes a directory for archives. Its name is on the disk when it returns.
func (s *Store) makeBlobDir(dir string) error {
	s.dirs.Lock()
	defer s.dirs.Unlock()
	// An existing directory may have been made just before a crash, or by a call whose sync failed.
	if _, err := os.Stat(dir); err == nil && s.dirsSynced {
		return nil
	}
	err := s.c.FS.Mkdir(dir, 0o755) // it syncs the names of all of them
	s.dirsSynced = err == nil
	return err
}

// Replaced returns false for every name: in a repository, no name gets a second digest.
func (s *Store) Replaced(update.Name) bool { return false }

// Metadata returns a metadata file as it was signed, of the current repository or of a superseded one that is kept.
// The error is fs.ErrNotExist for a file that is not there and for a name that no metadata file has. Files of a
// commit that is under way, or has failed, are not returned.
func (s *Store) Metadata(name string) ([]byte, error) {
	role, version, ok := trust.ParseFileName(name)
	if !ok {
		return nil, fs.ErrNotExist
	}
	v := s.current.Load()
	newest := int64(0)
	if v.repo != nil {
		newest = v.repo.Version(role)
	} else if role == trust.RoleRoot {
		newest = v.root.Version()
	}
	switch {
	case v.repo != nil && (role == trust.RoleTimestamp || version == newest):
		return v.repo.Raw(role), nil
	case role == trust.RoleTimestamp || version > newest:
		return nil, fs.ErrNotExist
	}
	return readUpTo(s.path(metadataDir, name), trust.MaxLength(role))
}

// readUpTo reads a file of at most limit bytes.
func readUpTo(path string, limit int64) ([]byte, error) {
	data, err := disk.ReadRegular(path, limit)
	return data, asCorrupt(err)
}
