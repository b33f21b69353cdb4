package trust

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/openpowerquality/box-update-server/internal/durable"
	"github.com/openpowerquality/box-update-server/update"
)

// Directory is a repository that a signer publishes into. Any static file server in front of it
// serves it to any TUF client:
//
//	lock                        held by the one program that writes; a server on the directory too
//	metadata/…                  the files of a State
//	targets/<digest>.<name>     hard links to blobs, for what is listed now
//	sha256/<ab>/<digest>        blobs, mode 0444
//	staging/<N>.<role>.json     proposals that wait for more signatures
//
// Its file system must have hard links.
type Directory struct {
	FS   durable.FS
	Path string
}

// Lock locks the directory, which it makes where it is missing, for writing; durable.ErrLocked where
// another program holds the lock.
func (d Directory) Lock() (*durable.Lock, error) {
	if err := d.FS.MkdirAll(d.Path, 0o755); err != nil {
		return nil, err
	}
	return durable.TryLock(filepath.Join(d.Path, "lock"))
}

// State opens the metadata. pinned is as for Config.
func (d Directory) State(pinned []byte) (*State, error) {
	return Open(Config{FS: d.FS, Dir: filepath.Join(d.Path, "metadata"), Pinned: pinned, Served: true})
}

// Create puts a new repository into a directory that has none. The caller holds the lock.
func (d Directory) Create(r *Repository) (*State, error) {
	s, err := d.State(nil)
	if err == nil {
		return nil, fmt.Errorf("%s: has a repository already, root %d: %w", d.Path, s.Root().version, fs.ErrExist)
	}
	if !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	if s, err = d.State(r.root.raw); err != nil {
		return nil, err
	}
	return s, s.Commit(r)
}

func (d Directory) blob(digest update.Digest) string {
	text := digest.String()
	return filepath.Join(d.Path, "sha256", text[:2], text)
}

func (d Directory) link(r Release) string {
	return filepath.Join(d.Path, "targets", r.Digest().String()+"."+r.Name().String())
}

// Put copies the archive of a release into the directory, durably. Bytes that are not the release's
// are refused with ErrMismatch and leave nothing. A blob that is there is not written again, and src
// not read. The caller holds the lock.
func (d Directory) Put(ctx context.Context, r Release, src io.Reader) error {
	if r.IsZero() {
		return errors.New("put: no release")
	}
	path := d.blob(r.Digest())
	if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() && info.Size() == r.Length() {
		return nil
	}
	if err := d.FS.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := d.FS.RemoveTemps(filepath.Dir(path)); err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(path), durable.TempPrefix+"*")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name()) // gone after the rename
	err = errors.Join(d.fill(ctx, r, temp, src), temp.Close())
	if err == nil {
		err = d.FS.Rename(temp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("put %v: %w", r.Name(), err)
	}
	return nil
}

func (d Directory) fill(ctx context.Context, r Release, temp *os.File, src io.Reader) error {
	var h update.Hasher
	if err := copyAll(ctx, io.MultiWriter(temp, &h), src, r.Length()); err != nil {
		return err
	}
	if err := fits(r, &h); err != nil {
		return err
	}
	if err := temp.Chmod(0o444); err != nil {
		return err
	}
	return d.FS.Sync(temp)
}

// copyAll copies at most one byte more than length.
func copyAll(ctx context.Context, to io.Writer, from io.Reader, length int64) error {
	from = io.LimitReader(from, length+1)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := io.CopyN(to, from, 1<<20); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func fits(r Release, h *update.Hasher) error {
	digest, blocks, length := h.Result()
	if length > r.Length() {
		return fmt.Errorf("%w: expected %d bytes, got more", ErrMismatch, r.Length())
	}
	if digest != r.Digest() || length != r.Length() {
		return fmt.Errorf("%w: expected %d bytes with digest %v, got %d with %v", ErrMismatch, r.Length(), r.Digest(), length, digest)
	}
	if got := update.Sum(blocks.Bytes()); got != r.Blocks() {
		return fmt.Errorf("%w: expected a block list with digest %v, got %v", ErrMismatch, r.Blocks(), got)
	}
	return nil
}

// Publish makes r the current repository of the directory, whose state is s: archives are linked
// where clients look for them, then s commits. An archive that is not there is refused with
// ErrNotFound. The caller holds the lock.
func (d Directory) Publish(s *State, r *Repository) error {
	targets := filepath.Join(d.Path, "targets")
	if err := d.FS.MkdirAll(targets, 0o755); err != nil {
		return err
	}
	listed, linked := map[string]bool{}, false
	for _, rel := range r.targets.releases {
		made, err := d.place(rel)
		if err != nil {
			return err
		}
		listed[filepath.Base(d.link(rel))], linked = true, linked || made
	}
	if linked {
		if err := d.FS.SyncDir(targets); err != nil {
			return err
		}
	}
	if err := s.Commit(r); err != nil {
		return err
	}
	return errors.Join(d.unlink(targets, listed), d.dropOld(r))
}

// place reports whether it made a new link.
func (d Directory) place(r Release) (bool, error) {
	if info, err := os.Lstat(d.link(r)); err == nil && info.Mode().IsRegular() && info.Size() == r.Length() {
		return false, nil
	}
	err := os.Link(d.blob(r.Digest()), d.link(r))
	if errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("%v: %w: its archive, %s, is missing", r.Name(), ErrNotFound, d.blob(r.Digest()))
	}
	return err == nil, err
}

// unlink removes the links to what is no longer listed.
func (d Directory) unlink(targets string, listed map[string]bool) error {
	names, err := os.ReadDir(targets)
	if err != nil {
		return err
	}
	for _, e := range names {
		if !listed[e.Name()] {
			if err := d.FS.Remove(filepath.Join(targets, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// Fetch reads a metadata file of the directory, as a Fetcher does.
func (d Directory) Fetch(_ context.Context, name string, limit int64, _ update.Digest) ([]byte, error) {
	return readFile(filepath.Join(d.Path, "metadata", filepath.Base(name)), limit)
}
