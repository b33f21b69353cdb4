package trust

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/openpowerquality/box-update-server/internal/disk"
)

// read returns the bytes of a metadata file, ErrNotFound where it is missing.
func (s *State) read(role Role, version int64) ([]byte, error) {
	return readFile(filepath.Join(s.cfg.Dir, FileName(role, version)), MaxLength(role))
}

// readFile reads a regular file of at most limit bytes. One that is longer, or that the disk can't read, is ErrMalformed: it
// no longer holds what was written.
func readFile(path string, limit int64) ([]byte, error) {
	raw, err := disk.ReadFile(path, limit)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: %w", filepath.Base(path), ErrNotFound)
	case errors.Is(err, disk.ErrTooLong):
		return nil, fmt.Errorf("%s: %w: more than %d bytes", filepath.Base(path), ErrMalformed, limit)
	case disk.Fault(err):
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return raw, err
}

func (s *State) loadRoots() error {
	stored, err := s.versions(RoleRoot)
	if err != nil {
		return err
	}
	first, err := s.firstRoot(stored)
	if err != nil {
		return err
	}
	s.roots = []*Root{first}
	for v := first.version + 1; len(stored) > 0 && v <= stored[len(stored)-1]; v++ {
		if err := s.loadRoot(v); err != nil {
			if s.cfg.Pinned == nil {
				return err
			}
			// It comes from the upstream again, see whole.
			s.damaged(fmt.Errorf("%w; it is fetched again", err))
			s.floor = stored[len(stored)-1]
			return nil
		}
	}
	return nil
}

// Roots returns the roots in the directory of a State, each of which follows from the one before; the first is the one
// from which the State was trusted. With an error they are those before the one that is missing or damaged.
func Roots(dir string) ([]*Root, error) {
	s := &State{cfg: Config{Dir: dir}}
	err := s.loadRoots()
	return s.roots, err
}

// firstRoot returns the root from which trust comes.
func (s *State) firstRoot(stored []int64) (*Root, error) {
	if s.cfg.Pinned == nil {
		if len(stored) == 0 {
			return nil, fmt.Errorf("%w: no root is there", ErrNotFound)
		}
		return s.loadFirst(stored[0])
	}
	r, err := ParseRoot(s.cfg.Pinned)
	if err != nil {
		return nil, fmt.Errorf("the given root: %w", err)
	}
	if !slices.Contains(stored, r.version) {
		return r, nil
	}
	there, err := s.loadFirst(r.version)
	if err != nil {
		s.damaged(fmt.Errorf("%w; the given root is used", err))
		return r, nil
	}
	if string(there.raw) != string(r.raw) {
		return nil, fmt.Errorf("%s: %w: the file there is another than the given root; one of them belongs to another repository", r.name(), ErrFork)
	}
	return r, nil
}

// loadFirst reads a root that no other one vouches for.
func (s *State) loadFirst(version int64) (r *Root, err error) {
	err = s.load(RoleRoot, version, func(raw []byte) (err error) {
		r, err = ParseRoot(raw)
		return err
	})
	return r, err
}

func (s *State) loadRoot(version int64) error {
	err := s.load(RoleRoot, version, func(raw []byte) error {
		next, err := parseRoot(s.Root(), raw)
		if err != nil {
			return err
		}
		if err := verifyRootChain(s.Root(), next); err != nil {
			return err
		}
		s.roots = append(s.roots, next)
		return nil
	})
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("%w: a newer root is there, and without this one nothing links the two", err)
	}
	return err
}

func (s *State) versions(role Role) ([]int64, error) { return storedVersions(s.cfg.Dir, role) }

// storedVersions lists the versions of a role in a directory, ascending. A root that is lost is there as long as its copy
// is: whoever took the one before for the newest would make another. A directory that is missing has none.
func storedVersions(dir string, role Role) ([]int64, error) {
	names, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var out []int64
	for _, e := range names {
		name := e.Name()
		if role == RoleRoot {
			name = strings.TrimSuffix(name, disk.CopyPath(""))
		}
		if r, v, ok := ParseFileName(name); ok && r == role {
			out = append(out, v)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// loadSet fills memory with what of the stored set the newest root accepts, and says why that is not a
// whole set.
func (s *State) loadSet() error {
	err := s.loadOnline()
	if errors.Is(err, ErrThreshold) {
		s.memory.timestamp, s.memory.snapshot = nil, nil
	}
	if err == nil {
		if s.memory.targets, err = s.loadTargets(); err == nil {
			return nil
		}
	}
	s.memory.targets = s.lastTargets()
	return err
}

func (s *State) loadOnline() error {
	err := s.load(RoleTimestamp, 0, func(raw []byte) (err error) {
		s.memory.timestamp, err = openOnline(s.Root(), RoleTimestamp, raw)
		return err
	})
	if err != nil {
		return err
	}
	named := s.memory.timestamp.next
	return s.load(RoleSnapshot, named.version, func(raw []byte) (err error) {
		s.memory.snapshot, err = openSnapshot(s.Root(), named, raw)
		return err
	})
}

func (s *State) loadTargets() (tg *targets, err error) {
	named := s.memory.snapshot.next
	err = s.load(RoleTargets, named.version, func(raw []byte) (err error) {
		tg, err = openTargets(s.Root(), named, raw)
		return err
	})
	return tg, err
}

// lastTargets returns the newest stored targets file that the newest root accepts, nil for none. It
// still guards against going back where the timestamp that led to it is forgotten.
func (s *State) lastTargets() *targets {
	stored, err := s.versions(RoleTargets)
	if err != nil {
		return nil // then nothing else could be read either
	}
	for _, v := range slices.Backward(stored) {
		raw, err := s.read(RoleTargets, v)
		if err != nil {
			continue
		}
		if tg, err := parseTargets(s.Root(), raw, s.Root().Threshold(RoleTargets)); err == nil && tg.version == v {
			return tg
		}
	}
	return nil
}
