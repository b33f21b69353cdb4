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

// Commit makes r the current repository, durably, and serves it from then on. All archives that it lists and that are
// kept must be in place, else the error is ErrIncomplete. There are two exceptions: if r has the same list as the
// current repository, archives may be missing, because a lost archive must not let a whole repository expire; and so
// may the archives in without, which nobody has any more. The other errors are those of trust.State.Commit, and
// disk.ErrNoSpace.
//
// After an error, Repository tells what is served: the old repository or, if only the last step failed, the new one,
// which may be committed again to make sure that it is durable. After a crash the directory holds the old or the new
// repository, whole.
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
		// Serve what is on the disk now: the timestamp may have been written.
		return errors.Join(err, s.load())
	}
	for _, b := range rebound {
		s.c.Logger.Warn("name bound anew", "name", b.Name, "was", b.Was, "now", b.Now)
	}
	old := s.Repository()
	if err := s.serve(s.state); err != nil {
		return err
	}
	if !s.mended {
		s.rewriteDamaged()
	}
	s.unlink(r)
	// The grace period of archives that were kept and are only listed now begins.
	if optional := s.current.Load().optional; old != nil && len(optional) > 0 {
		for _, rel := range s.Kept(old) {
			if optional[rel.Digest()] {
				s.touch(rel.Digest())
			}
		}
	}
	return nil
}

// sameList reports whether two repositories have the same list. The first may be nil.
func sameList(a, b *trust.Repository) bool {
	return a != nil && bytes.Equal(a.Raw(trust.RoleTargets), b.Raw(trust.RoleTargets))
}

func targetFile(r trust.Release) string { return r.Digest().String() + "." + r.Name().String() }

// link gives listed archives the path that TUF clients ask for, except those that are elsewhere. When it returns, the
// names by digest and by path are on the disk. It reports whether all archives are in the store, with their lengths.
func (s *Store) link(releases []trust.Release) (whole bool, err error) {
	whole = true
	fresh := map[string]bool{} // directories of archives that got a new path
	for _, rel := range releases {
		blob, path := s.blobPath(rel.Digest()), s.path(targetsDir, targetFile(rel))
		want, err := os.Lstat(blob)
		if errors.Is(err, fs.ErrNotExist) { // it is elsewhere, or missing
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
		if err == nil { // the path is that of a damaged archive that was replaced
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
	// An earlier run may have crashed between a link and this sync.
	return whole, s.c.FS.SyncDir(s.path(targetsDir))
}

// linkListed gives an archive that came back the paths under which it is listed. The caller holds committing for
// reading.
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

// unlink removes the paths of archives that r does not list. The archives themselves stay until GC, for clients that
// are still reading the old list. The next commit tries again to remove a path that could not be removed.
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
	return s.c.Kept(r)
}

// optional returns the digests that a repository lists and that are not kept.
func (s *Store) optional(r *trust.Repository) map[update.Digest]bool {
	out := map[update.Digest]bool{}
	for _, rel := range r.Releases() {
		out[rel.Digest()] = true
	}
	for _, rel := range s.c.Kept(r) {
		delete(out, rel.Digest())
	}
	return out
}

// touch sets the change time of an archive, which begins its grace period anew and records that it was used.
func (s *Store) touch(d update.Digest) {
	if err := os.Chmod(s.blobPath(d), 0o444); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.c.Logger.Warn("use of an archive not recorded", "digest", d.String(), "err", err)
	}
}
