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

// Fetched is what came of fetching.
type Fetched struct {
	Name   *update.Name   `json:"name"` // null: there is nothing for this box
	Digest *update.Digest `json:"sha256,omitempty"`
	Path   string         `json:"path,omitempty"`
	Held   []Held         `json:"held,omitempty"`

	Offer Offer `json:"-"` // what the mirrors have
}

// Fetch asks the mirrors and downloads the update of that name or, where that is "", the one for this box.
func (p *Box) Fetch(ctx context.Context, name string) (out Fetched, err error) {
	err = p.change(func(b *box) error {
		out, err = b.fetchNamed(ctx, name)
		return err
	})
	return out, err
}

func (b *box) fetchNamed(ctx context.Context, arg string) (Fetched, error) {
	repo, err := b.refresh(ctx)
	if err != nil {
		return Fetched{}, err
	}
	o := b.offer(repo, b.readStatus(), false)
	b.warnStale(o)
	rel := o.release
	if arg != "" {
		if rel, err = b.named(arg); err != nil {
			return Fetched{}, err
		}
	}
	if rel.IsZero() {
		return Fetched{Held: o.Held, Offer: o}, nil
	}
	f, err := b.fetch(ctx, rel)
	if err != nil {
		return Fetched{}, err
	}
	defer f.Close() // opened for reading
	name, digest := rel.Name(), rel.Digest()
	return Fetched{&name, &digest, f.Name(), o.Held, o}, nil
}

// named returns the trusted update of that name.
func (b *box) named(arg string) (trust.Release, error) {
	name, err := update.ParseName(arg)
	if err != nil {
		return trust.Release{}, status.Usagef("expected the name of an update, or a file that is there: %w", err)
	}
	repo, err := b.trusted()
	if err != nil {
		return trust.Release{}, err
	}
	rel, ok := repo.Release(name)
	if !ok {
		return trust.Release{}, refused(status.WithHint(fmt.Errorf("%v: the signed list doesn't have it", name),
			"boxup check asks the mirrors for the newest list; one that was withdrawn can't be installed any more"))
	}
	return rel, nil
}

// fetch brings an update into the store, unless it is there, and opens it. What is left there of others
// is removed first.
func (b *box) fetch(ctx context.Context, rel trust.Release) (_ *os.File, err error) {
	if err := b.tidy(rel.Digest()); err != nil {
		return nil, fmt.Errorf("fetch %v: %w", rel.Name(), err)
	}
	s, err := b.openStore(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if !s.Has(rel) {
		err := b.bring(ctx, s, rel)
		b.noteMirrors()
		if err := errors.Join(err, b.remember()); err != nil {
			return nil, explain.At(rel.Name().String(), status.Coded(err))
		}
	}
	return s.Open(rel.Update())
}

// stored opens an update that was fetched before.
func (b *box) stored(ctx context.Context, rel trust.Release) (_ *os.File, err error) {
	s, err := b.openStore(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	f, err := s.Open(rel.Update())
	if errors.Is(err, fs.ErrNotExist) {
		err = status.WithHint(fmt.Errorf("%v was not fetched", rel.Name()), "download it with boxup fetch "+rel.Name().String()+", or name a file")
	}
	return f, err
}

// openStore opens the state directory as a store that needs to hold no update of its list.
func (b *box) openStore(ctx context.Context) (*store.Store, error) {
	return store.Open(ctx, store.Config{
		Dir: b.dir, Root: b.pinned, FS: b.FS, Logger: b.Logger,
		Kept: func(*trust.Repository) []trust.Release { return nil },
	})
}

func (b *box) bring(ctx context.Context, s *store.Store, rel trust.Release) error {
	if err := checkRoom(ctx, s, rel); err != nil {
		return err
	}
	if err := b.connect(); err != nil {
		return err
	}
	a := fetch.Archives{Client: b.client, Store: s, Resume: true}
	if b.MaxBytesPerDay > 0 {
		a.Budget = func(rel trust.Release) fetch.Budget {
			return releaseBudget{budget{b.allowance(), rel.Name(), rel.Digest()}}
		}
	}
	_, err := a.Bring(ctx, rel, nil)
	return err
}

// checkRoom refuses an update that does not fit on the disk, packed and as installing it needs. What would only fail
// after it has come would come for nothing.
func checkRoom(ctx context.Context, s *store.Store, rel trust.Release) error {
	room, err := s.Room(ctx, []trust.Release{rel})
	if err != nil {
		return err
	}
	after := install.Needs(rel.Length(), rel.Unpacked())
	if need := room.Need + after; need > room.Free {
		return fmt.Errorf("%w: %d bytes are needed, %d of them for installing it, and %d are free: make room",
			disk.ErrNoSpace, need, after, max(room.Free, 0))
	}
	return nil
}

// tidy removes from the state directory what is not of one of those archives.
func (b *box) tidy(keep ...update.Digest) error {
	kept := func(name string) bool {
		return slices.ContainsFunc(keep, func(d update.Digest) bool { return strings.HasPrefix(name, d.String()) })
	}
	dirs := []string{filepath.Join(b.dir, stagingDir), filepath.Join(b.dir, targetsDir), filepath.Join(b.dir, quarantineDir)}
	blobs, err := inside(filepath.Join(b.dir, blobDir))
	if err != nil {
		return err
	}
	for _, dir := range append(dirs, blobs...) {
		files, err := inside(dir)
		if err != nil {
			return err
		}
		for _, path := range files {
			if kept(filepath.Base(path)) {
				continue
			}
			if err := b.drop(path); err != nil {
				return fmt.Errorf("remove what is not needed any more: %w", err)
			}
		}
	}
	return removeEmpty(blobs)
}

// drop removes a file that is not needed. One that may not be removed, because it is immutable for example, is told of
// and stays: it must not keep every update away.
func (p *Box) drop(path string) error {
	err := p.FS.Remove(path)
	if errors.Is(err, fs.ErrPermission) {
		p.warn("%v: it is not needed, and stays", err)
		return nil
	}
	return err
}

// inside returns the paths of what is in a directory; one that isn't there is empty.
func inside(dir string) (paths []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		paths = append(paths, filepath.Join(dir, e.Name()))
	}
	return paths, nil
}

// tidyListed removes what was fetched of updates that are not listed any more, or are installed.
func (b *box) tidyListed(repo *trust.Repository, s install.Status) error {
	var keep []update.Digest
	for _, rel := range repo.Releases() {
		if s.Installed == nil || rel.Digest() != s.Installed.Digest {
			keep = append(keep, rel.Digest())
		}
	}
	return b.tidy(keep...)
}

// removeEmpty removes those of the directories that are empty.
func removeEmpty(dirs []string) error {
	for _, dir := range dirs {
		if err := os.Remove(dir); err != nil && !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, syscall.EEXIST) {
			return err
		}
	}
	return nil
}
