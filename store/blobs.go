package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

const (
	blobDir       = "sha256"
	targetsDir    = "targets"
	metadataDir   = "metadata"
	stagingDir    = "staging"
	quarantineDir = "quarantine"

	blocksSuffix = ".blocks"
)

func (s *Store) path(parts ...string) string {
	return filepath.Join(append([]string{s.c.Dir}, parts...)...)
}

func (s *Store) blobPath(d update.Digest) string {
	hex := d.String()
	return s.path(blobDir, hex[:2], hex)
}

func (s *Store) blocksPath(d update.Digest) string { return s.blobPath(d) + blocksSuffix }

// Has reports whether the archive is in place, here or elsewhere, with its length.
func (s *Store) Has(r trust.Release) bool {
	info, err := os.Lstat(s.blobPath(r.Digest()))
	if err == nil && info.Mode().IsRegular() && info.Size() == r.Length() {
		return true
	}
	f, ok := s.elsewhere(r.Digest())
	if !ok {
		return false
	}
	defer f.Close() // opened for reading
	info, err = f.Stat()
	return err == nil && info.Size() == r.Length()
}

// Missing returns the releases of a repository whose archives are not in place.
func (s *Store) Missing(r *trust.Repository) []trust.Release {
	var out []trust.Release
	for _, rel := range r.Releases() {
		if !s.Has(rel) {
			out = append(out, rel)
		}
	}
	return out
}

func (s *Store) elsewhere(d update.Digest) (*os.File, bool) {
	for _, p := range s.c.Elsewhere {
		if f, ok := p.OpenDigest(d); ok {
			return f, true
		}
	}
	return nil, false
}

// Open opens the archive of an update. The error is fs.ErrNotExist where it is not there, and
// ErrCorrupt where its length is wrong.
func (s *Store) Open(u update.Update) (*os.File, error) {
	f, err := os.Open(s.blobPath(u.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		if f, ok := s.elsewhere(u.Digest); ok {
			return f, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open %v: %w", u.Name, err)
	}
	info, err := f.Stat()
	if err == nil && info.Size() != u.Length {
		err = fmt.Errorf("%w: %d bytes, expected %d", ErrCorrupt, info.Size(), u.Length)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open %v: %w", u.Name, err)
	}
	return f, nil
}

// Blocks returns the block list of an update. The error is fs.ErrNotExist where it is not there. A
// list that is damaged, or was never stored because the archive lies elsewhere, is computed anew.
func (s *Store) Blocks(u update.Update) (update.Blocks, error) {
	repo := s.Repository()
	if repo == nil {
		return nil, fs.ErrNotExist
	}
	rel, ok := repo.Release(u.Name)
	if !ok || rel.Digest() != u.Digest {
		return nil, fs.ErrNotExist
	}
	if raw, err := readUpTo(s.blocksPath(u.Digest), int64(update.BlockCount(u.Length))*int64(len(update.Digest{}))); err == nil {
		if blocks, err := update.ParseBlocks(raw, u.Length); err == nil && update.Sum(raw) == rel.Blocks() {
			return blocks, nil
		}
	}
	return s.computeBlocks(rel)
}

func (s *Store) computeBlocks(rel trust.Release) (update.Blocks, error) {
	f, err := s.Open(rel.Update())
	if err != nil {
		return nil, err
	}
	defer f.Close() // opened for reading
	blocks, err := hashArchive(context.Background(), f, rel)
	if err != nil {
		return nil, err
	}
	if s.writable() == nil {
		if err := s.putBlocks(rel.Digest(), blocks); err != nil {
			s.c.Logger.Warn("block list not stored", "name", rel.Name().String(), "err", err)
		}
	}
	return blocks, nil
}

// hashArchive reads an archive and returns its block list. The error is ErrCorrupt where it is not the
// archive of that release.
func hashArchive(ctx context.Context, r io.Reader, rel trust.Release) (update.Blocks, error) {
	var h update.Hasher
	if _, err := io.CopyBuffer(&h, io.LimitReader(untilDone{ctx, r}, rel.Length()+1), make([]byte, 1<<20)); err != nil {
		return nil, fmt.Errorf("read %v: %w", rel.Name(), err)
	}
	d, blocks, length := h.Result()
	if d != rel.Digest() || length != rel.Length() {
		return nil, fmt.Errorf("%v: %w: expected digest %v and %d bytes, got %v and %d", rel.Name(), ErrCorrupt, rel.Digest(), rel.Length(), d, length)
	}
	if got := update.Sum(blocks.Bytes()); got != rel.Blocks() {
		return nil, fmt.Errorf("%v: %w: expected a block list with digest %v, got %v", rel.Name(), ErrCorrupt, rel.Blocks(), got)
	}
	return blocks, nil
}

// untilDone ends reading with the error of ctx.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

func (u untilDone) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}

func (s *Store) putBlocks(d update.Digest, blocks update.Blocks) error {
	if err := s.c.FS.MkdirAll(filepath.Dir(s.blocksPath(d)), 0o755); err != nil {
		return err
	}
	return s.c.FS.WriteFile(s.blocksPath(d), blocks.Bytes(), 0o444)
}

// Replaced is false for every name: none ever gets a second digest.
func (s *Store) Replaced(update.Name) bool { return false }

// Metadata returns a metadata file as it was signed. The error is fs.ErrNotExist for a file that is
// not there and for a name that no metadata file has.
func (s *Store) Metadata(name string) ([]byte, error) {
	role, version, ok := trust.ParseFileName(name)
	if !ok {
		return nil, fs.ErrNotExist
	}
	if repo := s.Repository(); repo != nil && (role == trust.RoleTimestamp || version == repo.Version(role)) {
		return repo.Raw(role), nil
	}
	if role == trust.RoleTimestamp {
		return nil, fs.ErrNotExist
	}
	return readUpTo(s.path(metadataDir, name), trust.MaxLength(role))
}

// readUpTo reads a file of at most limit bytes.
func readUpTo(path string, limit int64) (data []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // opened for reading
	data, err = io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s: %w: more than %d bytes", path, ErrCorrupt, limit)
	}
	if err != nil {
		return nil, err
	}
	return data, nil
}
