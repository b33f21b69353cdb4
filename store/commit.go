package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// Commit makes a repository the current one, durably, and from then on what is served. All archives
// that it lists and that are kept must be in place, else the error is ErrIncomplete; unless it has the
// same list as the current one: an archive that was lost must not let a whole repository expire. Nor need those be
// in place that are without: archives that are nowhere to be had. The
// other errors are those of trust.State.Commit, and disk.ErrNoSpace.
//
// After an error Repository tells what is served: the old repository or, where only the last step
// failed, the new one, which may be committed again to be sure of it. After a crash the directory holds
// the old or the new one, whole.
func (s *Store) Commit(ctx context.Context, r *trust.Repository, without ...update.Digest) error {
	if r == nil {
		return errors.New("commit: no repository")
	}
	s.committing.Lock()
	defer s.committing.Unlock()
	if err := errors.Join(s.writable(), ctx.Err()); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	missing := slices.DeleteFunc(s.Missing(r), func(rel trust.Release) bool { return slices.Contains(without, rel.Digest()) })
	if len(missing) > 0 && !sameList(s.Repository(), r) {
		return fmt.Errorf("commit: %w: %d, the first is %v", ErrIncomplete, len(missing), missing[0].Name())
	}
	if _, err := s.link(r.Releases()); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	rebound := s.state.Ledger().Rebound(r)
	if err := s.state.Commit(r); err != nil {
		// What counts is what lies on the disk now: the timestamp may have got there.
		return errors.Join(err, s.load())
	}
	for _, b := range rebound {
		s.c.Logger.Warn("name bound anew", "name", b.Name, "was", b.Was, "now", b.Now)
	}
	old := s.Repository()
	if err := s.show(s.state); err != nil {
		return err
	}
	s.unlink(r)
	// The grace period of what was kept until now, and is listed but not kept any more, begins.
	if optional := s.current.Load().optional; old != nil && len(optional) > 0 {
		for _, rel := range s.Kept(old) {
			if optional[rel.Digest()] {
				s.renewGrace(rel)
			}
		}
	}
	return nil
}

// sameList reports whether two repositories, of which the first may be nil, have one list.
func sameList(a, b *trust.Repository) bool {
	return a != nil && bytes.Equal(a.Raw(trust.RoleTargets), b.Raw(trust.RoleTargets))
}

func targetFile(r trust.Release) string { return r.Digest().String() + "." + r.Name().String() }

// link gives listed archives the path that TUF clients ask for, those that lie elsewhere excepted. The
// names by digest and by path are on the disk afterwards. It reports whether all archives lie here, with their lengths.
func (s *Store) link(releases []trust.Release) (whole bool, err error) {
	whole = true
	fresh := map[string]bool{} // directories of archives that got a path
	for _, rel := range releases {
		blob, path := s.blobPath(rel.Digest()), s.path(targetsDir, targetFile(rel))
		want, err := os.Lstat(blob)
		if errors.Is(err, fs.ErrNotExist) { // it lies elsewhere, or is missing
			whole = false
			continue
		}
		if err != nil {
			return false, err
		}
		whole = whole && isArchive(want, rel)
		have, err := os.Lstat(path)
		if err == nil && os.SameFile(have, want) {
			continue
		}
		if err == nil { // of an archive that was damaged and replaced
			if err := s.c.FS.Remove(path); err != nil {
				return false, err
			}
		}
		if err := s.c.FS.Link(blob, path); err != nil {
			return false, err
		}
		fresh[filepath.Dir(blob)] = true
	}
	for dir := range fresh {
		if err := s.c.FS.SyncDir(dir); err != nil {
			return false, err
		}
	}
	// A crash may have come between a link and this.
	return whole, s.c.FS.SyncDir(s.path(targetsDir))
}

// linkListed gives an archive that came back the paths under which it is listed. The caller holds
// committing for reading.
func (s *Store) linkListed(d update.Digest) error {
	repo := s.Repository()
	if repo == nil {
		return nil
	}
	listed := slices.DeleteFunc(repo.Releases(), func(rel trust.Release) bool { return rel.Digest() != d })
	if len(listed) == 0 {
		return nil
	}
	_, err := s.link(listed)
	return err
}

// unlink removes the paths of archives that are not listed any more. The archives themselves stay
// until GC, for whoever is still reading the old list. A path that can't be removed is tried again by
// the next commit.
func (s *Store) unlink(r *trust.Repository) {
	listed := map[string]bool{}
	for _, rel := range r.Releases() {
		listed[targetFile(rel)] = true
	}
	s.unlinkIf(func(name string) bool { return !listed[name] })
}

// unlinkDigest removes the paths of one archive.
func (s *Store) unlinkDigest(d update.Digest) {
	s.unlinkIf(func(name string) bool { return strings.HasPrefix(name, d.String()+".") })
}

func (s *Store) unlinkIf(doomed func(name string) bool) {
	entries, err := os.ReadDir(s.path(targetsDir))
	if err != nil {
		s.c.Logger.Warn("old paths not removed", "err", err)
		return
	}
	for _, e := range entries {
		if !doomed(e.Name()) {
			continue
		}
		if err := s.c.FS.Remove(s.path(targetsDir, e.Name())); err != nil {
			s.c.Logger.Warn("old path not removed", "err", err)
		}
	}
}

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

// renewGrace begins the grace period of an archive that is in place anew.
func (s *Store) renewGrace(rel trust.Release) {
	err := os.Chmod(s.blobPath(rel.Digest()), 0o444) // which sets its time of change
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.c.Logger.Warn("grace period not renewed", "name", rel.Name().String(), "err", err)
	}
}
