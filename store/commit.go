package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/openpowerquality/box-update-server/internal/durable"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

// Commit makes a repository the current one, durably, and from then on what is served. All archives
// that it lists must be in place, else the error is ErrIncomplete. The other errors are those of
// trust.State.Commit, and ErrNoSpace. After an error the old repository is served, and after a crash
// the old or the new one is.
func (s *Store) Commit(ctx context.Context, r *trust.Repository) error {
	if err := s.writable(); err != nil {
		return err
	}
	s.committing.Lock()
	defer s.committing.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if missing := s.Missing(r); len(missing) > 0 {
		return fmt.Errorf("commit: %w: %d, the first is %v", ErrIncomplete, len(missing), missing[0].Name())
	}
	if err := s.link(r); err != nil {
		return fmt.Errorf("commit: %w", noSpace(err))
	}
	if err := s.state.Commit(r); err != nil {
		// What counts is what lies on the disk now: the timestamp may have got there.
		return errors.Join(noSpace(err), s.reread())
	}
	if err := s.show(r); err != nil {
		return err
	}
	return s.unlink(r)
}

// reread shows what the directory holds after a commit that failed.
func (s *Store) reread() error {
	state, err := trust.Open(trust.Config{FS: s.c.FS, Dir: s.path(metadataDir), Pinned: s.c.Root, Served: true})
	if err != nil {
		return err
	}
	repo, err := state.Current()
	if err != nil && !errors.Is(err, trust.ErrNone) {
		return err
	}
	s.state = state
	return s.show(repo)
}

func targetFile(r trust.Release) string { return r.Digest().String() + "." + r.Name().String() }

// link gives each listed archive the path that TUF clients ask for.
func (s *Store) link(r *trust.Repository) error {
	dir, made := s.path(targetsDir), false
	for _, rel := range r.Releases() {
		path := filepath.Join(dir, targetFile(rel))
		if _, err := os.Lstat(path); err == nil {
			continue
		}
		err := s.c.FS.Link(s.blobPath(rel.Digest()), path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it lies elsewhere, or is missing
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		made = true
	}
	if !made {
		return nil
	}
	return s.c.FS.SyncDir(dir)
}

// unlink removes the paths of archives that are not listed any more. The archives themselves stay
// until GC, for whoever is still reading the old list.
func (s *Store) unlink(r *trust.Repository) error {
	listed := map[string]bool{}
	for _, rel := range r.Releases() {
		listed[targetFile(rel)] = true
	}
	entries, err := os.ReadDir(s.path(targetsDir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if listed[e.Name()] || strings.HasPrefix(e.Name(), durable.TempPrefix) {
			continue
		}
		if err := s.c.FS.Remove(s.path(targetsDir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
