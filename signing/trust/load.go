package trust

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// read returns the bytes of a metadata file, ErrNotFound where it is missing.
func (s *State) read(role Role, version int64) ([]byte, error) {
	return readFile(filepath.Join(s.cfg.Dir, FileName(role, version)), MaxLength(role))
}

// readFile reads a regular file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", filepath.Base(path), ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() // opened for reading
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.Grow(int(min(info.Size(), limit)) + bytes.MinRead)
	if _, err := b.ReadFrom(io.LimitReader(f, limit+1)); err != nil {
		return nil, err
	}
	if int64(b.Len()) > limit {
		return nil, fmt.Errorf("%s: %w: more than %d bytes", filepath.Base(path), ErrMalformed, limit)
	}
	return b.Bytes(), nil
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
	for _, v := range stored {
		if v <= first.version {
			continue
		}
		if err := s.loadRoot(v); err != nil {
			return err
		}
	}
	return nil
}

// firstRoot returns the root from which trust comes.
func (s *State) firstRoot(stored []int64) (*Root, error) {
	if s.cfg.Pinned == nil {
		if len(stored) == 0 {
			return nil, fmt.Errorf("%w: no root is there", ErrNotFound)
		}
		raw, err := s.read(RoleRoot, stored[0])
		if err != nil {
			return nil, err
		}
		return ParseRoot(raw)
	}
	r, err := ParseRoot(s.cfg.Pinned)
	if err != nil {
		return nil, fmt.Errorf("the given root: %w", err)
	}
	if !slices.Contains(stored, r.version) {
		return r, nil
	}
	raw, err := s.read(RoleRoot, r.version)
	if err != nil {
		return nil, err
	}
	if string(raw) != string(r.raw) {
		return nil, fmt.Errorf("%s: %w: the file there is another than the given root; one of them belongs to another repository", r.name(), ErrFork)
	}
	return r, nil
}

func (s *State) loadRoot(version int64) error {
	if want := s.Root().version + 1; version != want {
		return fmt.Errorf("%s: %w: %s is there, and without it nothing links the two", FileName(RoleRoot, want), ErrNotFound, FileName(RoleRoot, version))
	}
	raw, err := s.read(RoleRoot, version)
	if err != nil {
		return err
	}
	next, err := parseRoot(s.Root(), raw)
	if err != nil {
		return err
	}
	if err := verifyRootChain(s.Root(), next); err != nil {
		return err
	}
	s.roots = append(s.roots, next)
	return nil
}

func (s *State) versions(role Role) ([]int64, error) { return storedVersions(s.cfg.Dir, role) }

// storedVersions lists the versions of a role in a directory, ascending. A directory that is missing
// has none.
func storedVersions(dir string, role Role) ([]int64, error) {
	names, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var out []int64
	for _, e := range names {
		if r, v, ok := ParseFileName(e.Name()); ok && r == role {
			out = append(out, v)
		}
	}
	slices.Sort(out)
	return out, nil
}

func (s *State) loadLedger() error {
	raw, err := readFile(filepath.Join(s.cfg.Dir, LedgerName), maxLedger)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if s.ledger, err = ParseLedger(raw); err != nil {
		return err
	}
	return s.loadBound()
}

// learn adds what the current repository lists to the ledger in memory: a ledger that was lost, or is
// older than the repository, is as good as can be.
func (s *State) learn() error {
	if s.memory.targets == nil {
		return nil
	}
	l, err := s.ledger.with(s.memory.targets.releases)
	if err != nil {
		return err
	}
	s.ledger = l
	return nil
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
	raw, err := s.read(RoleTimestamp, 0)
	if err != nil {
		return err
	}
	if s.memory.timestamp, err = verifyTimestamp(s.Root(), raw); err != nil {
		return err
	}
	named := s.memory.timestamp.next
	if raw, err = s.read(RoleSnapshot, named.version); err != nil {
		return err
	}
	s.memory.snapshot, err = verifySnapshot(s.Root(), named, raw)
	return err
}

func (s *State) loadTargets() (*targets, error) {
	named := s.memory.snapshot.next
	raw, err := s.read(RoleTargets, named.version)
	if err != nil {
		return nil, err
	}
	return verifyTargets(s.Root(), named, raw)
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
