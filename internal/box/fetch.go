package box

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
	"github.com/openpowerquality/box-update-server/update/install"
)

// Fetched is the result of Fetch.
type Fetched struct {
	Name   *update.Name   `json:"name"` // null: there is no update for this box
	Digest *update.Digest `json:"sha256,omitempty"`
	Path   string         `json:"path,omitempty"`
	Held   []Held         `json:"held,omitempty"`

	Offer Offer `json:"-"` // what the mirrors have
}

// Fetch asks the mirrors and downloads the update of that name or, if name is "", the one for this box.
func (b *Box) Fetch(ctx context.Context, name string) (out Fetched, err error) {
	err = b.change(func(s *session) error {
		out, err = s.fetchNamed(ctx, name)
		return err
	})
	return out, err
}

func (s *session) fetchNamed(ctx context.Context, arg string) (Fetched, error) {
	repo, err := s.refresh(ctx)
	if err != nil {
		return Fetched{}, err
	}
	o := s.offer(repo, s.readStatus(), false)
	s.warnStale(o)
	rel := o.release
	if arg != "" {
		if rel, err = s.releaseNamed(arg); err != nil {
			return Fetched{}, err
		}
	}
	if rel.IsZero() {
		return Fetched{Held: o.Held, Offer: o}, nil
	}
	f, err := s.fetchRelease(ctx, rel)
	if err != nil {
		return Fetched{}, err
	}
	defer f.Close() // opened for reading
	name, digest := rel.Name(), rel.Digest()
	return Fetched{&name, &digest, f.Name(), o.Held, o}, nil
}

// releaseNamed returns the update of that name in the trusted list. It refuses a name that is not listed.
func (s *session) releaseNamed(arg string) (trust.Release, error) {
	name, err := update.ParseName(arg)
	if err != nil {
		return trust.Release{}, status.Usagef("expected the name of an update or an existing file: %w", err)
	}
	repo, err := s.trusted()
	if err != nil {
		return trust.Release{}, err
	}
	rel, ok := repo.Release(name)
	if !ok {
		return trust.Release{}, refused(status.WithHint(fmt.Errorf("%v is not in the signed list", name),
			"run boxup check to get the newest list; an update that was withdrawn can't be installed any more"))
	}
	return rel, nil
}

// fetchRelease downloads an update into the store, unless it is there, and opens it. First it removes all other
// archives from the state directory.
func (s *session) fetchRelease(ctx context.Context, rel trust.Release) (_ *os.File, err error) {
	if err := s.removeOthers(rel.Digest()); err != nil {
		return nil, fmt.Errorf("fetch %v: %w", rel.Name(), err)
	}
	st, err := s.openStore(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	if !st.Has(rel) {
		err := s.download(ctx, st, rel)
		s.noteMirrors()
		if err := errors.Join(err, s.saveRecord()); err != nil {
			return nil, explain.At(rel.Name().String(), status.Coded(err))
		}
	}
	return st.Open(rel.Update())
}

// openFetched opens an update that was fetched before. It asks no mirror.
func (s *session) openFetched(ctx context.Context, rel trust.Release) (_ *os.File, err error) {
	st, err := s.openStore(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	f, err := st.Open(rel.Update())
	if errors.Is(err, fs.ErrNotExist) {
		err = status.WithHint(fmt.Errorf("%v is not downloaded", rel.Name()), "download it with boxup fetch "+rel.Name().String()+", or give the path of a file")
	}
	return f, err
}

// openStore opens the state directory as a store that doesn't need to hold any archive of its list.
func (s *session) openStore(ctx context.Context) (*store.Store, error) {
	return store.Open(ctx, store.Config{
		Dir: s.State, Root: s.pinned, FS: s.FS, Logger: s.Logger,
		Kept: func(*trust.Repository) []trust.Release { return nil },
	})
}

func (s *session) download(ctx context.Context, st *store.Store, rel trust.Release) error {
	if err := checkRoom(ctx, st, rel); err != nil {
		return err
	}
	if err := s.connect(); err != nil {
		return err
	}
	a := fetch.Archives{Client: s.client, Store: st, Resume: true}
	if s.MaxBytesPerDay > 0 {
		a.Budget = func(rel trust.Release) fetch.Budget {
			return releaseBudget{budget{s.allowance(), rel.Name(), rel.Digest()}}
		}
	}
	_, err := a.Bring(ctx, rel, nil)
	return err
}

// checkRoom refuses an update for which the disk lacks room: for the archive and for its installation. It counts both
// before the download, which would be wasted if the installation failed.
func checkRoom(ctx context.Context, s *store.Store, rel trust.Release) error {
	room, err := s.Room(ctx, []trust.Release{rel})
	if err != nil {
		return err
	}
	after := install.Needs(rel.Length(), rel.Unpacked())
	if need := room.Need + after; need > room.Free {
		return fmt.Errorf("%w: expected %d bytes free, %d of them to install the update, got %d",
			disk.ErrNoSpace, need, after, max(room.Free, 0))
	}
	return nil
}

// removeOthers removes all archives from the state directory, complete or not, except those with the digests in keep.
func (s *session) removeOthers(keep ...update.Digest) error {
	kept := func(name string) bool {
		return slices.ContainsFunc(keep, func(d update.Digest) bool { return strings.HasPrefix(name, d.String()) })
	}
	dirs := []string{filepath.Join(s.State, stagingDir), filepath.Join(s.State, targetsDir), filepath.Join(s.State, quarantineDir)}
	blobs, err := pathsIn(filepath.Join(s.State, blobDir))
	if err != nil {
		return err
	}
	for _, dir := range append(dirs, blobs...) {
		files, err := pathsIn(dir)
		if err != nil {
			return err
		}
		for _, path := range files {
			if kept(filepath.Base(path)) {
				continue
			}
			if err := s.removeUnneeded(path); err != nil {
				return fmt.Errorf("remove archives that are no longer needed: %w", err)
			}
		}
	}
	return removeEmpty(blobs)
}

// removeUnneeded removes a file that is not needed. If the system denies that, for example because the file is immutable,
// it warns and leaves the file: one file must not block every update.
func (b *Box) removeUnneeded(path string) error {
	err := b.FS.Remove(path)
	if errors.Is(err, fs.ErrPermission) {
		b.warn("can't remove an archive that is no longer needed: %v", err)
		return nil
	}
	return err
}

// pathsIn returns the paths of the entries of a directory, none if it doesn't exist.
func pathsIn(dir string) (paths []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		paths = append(paths, filepath.Join(dir, e.Name()))
	}
	return paths, nil
}

// removeUnlisted removes the archives of updates that are installed or not listed any more.
func (s *session) removeUnlisted(repo *trust.Repository, installed install.Status) error {
	var keep []update.Digest
	for _, rel := range repo.Releases() {
		if installed.Installed == nil || rel.Digest() != installed.Installed.Digest {
			keep = append(keep, rel.Digest())
		}
	}
	return s.removeOthers(keep...)
}

// removeEmpty removes those directories that are empty.
func removeEmpty(dirs []string) error {
	for _, dir := range dirs {
		if err := os.Remove(dir); err != nil && !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, syscall.EEXIST) {
			return err
		}
	}
	return nil
}
