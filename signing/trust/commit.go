package trust

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
)

// Commit makes a repository the current one, durably: roots, ledger, targets, snapshot and, last, the
// timestamp. After an error, or a crash at any instant, the directory holds the old repository or the
// new one, whole; which one, Open says. Where it is served, every archive that the repository lists
// must be in place before.
//
// A repository that is older than the current one is refused with ErrRollback, another digest for a
// name with ErrSecondDigest, and one that follows from other roots with ErrFork.
func (s *State) Commit(r *Repository) error {
	if r == nil {
		return errors.New("commit: no repository")
	}
	m, err := s.admit(r)
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	ledger, err := s.ledger.with(r.targets.releases)
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if err := s.write(r, ledger); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	s.roots, s.memory, s.current, s.problem, s.ledger = s.joined(r.chain), m, r, nil, ledger
	return s.prune()
}

// admit checks r against what was accepted before and returns the memory that holds r.
func (s *State) admit(r *Repository) (memory, error) {
	for _, mine := range s.roots {
		i := slices.IndexFunc(r.chain, func(theirs *Root) bool { return theirs.version == mine.version })
		if i >= 0 && string(r.chain[i].raw) != string(mine.raw) {
			return memory{}, fmt.Errorf("%s: %w", mine.name(), ErrFork)
		}
	}
	if r.root.version < s.Root().version {
		return memory{}, rollback(r.root.name(), s.Root().version)
	}
	if r.chain[0].version > s.Root().version {
		if err := verifyRootChain(s.Root(), r.chain[0]); err != nil {
			return memory{}, err
		}
	}
	m := s.memory.under(r.root)
	if err := errors.Join(m.checkTimestamp(r.timestamp), m.checkSnapshot(r.snapshot), m.checkTargets(r.targets)); err != nil {
		return memory{}, err
	}
	return memory{r.timestamp, r.snapshot, r.targets}, nil
}

// joined returns the roots of s and those of chain that are newer.
func (s *State) joined(chain []*Root) []*Root {
	out := slices.Clone(s.roots)
	for _, r := range chain {
		if r.version > out[len(out)-1].version {
			out = append(out, r)
		}
	}
	return out
}

func (s *State) write(r *Repository, ledger *Ledger) error {
	if err := s.storeRoots(s.joined(r.chain)); err != nil {
		return err
	}
	if ledger.Len() > 0 {
		if err := s.put(LedgerName, ledger.Bytes()); err != nil {
			return err
		}
	}
	for _, role := range []Role{RoleTargets, RoleSnapshot, RoleTimestamp} {
		if err := s.put(FileName(role, r.Version(role)), r.Raw(role)); err != nil {
			return err
		}
	}
	// What was there already may come from a crash before the directory was synced.
	return s.cfg.FS.SyncDir(s.cfg.Dir)
}

// put writes a file unless it has those bytes already.
func (s *State) put(name string, data []byte) error {
	path := filepath.Join(s.cfg.Dir, name)
	if old, err := readFile(path, int64(len(data))); err == nil && bytes.Equal(old, data) {
		return nil
	}
	return s.cfg.FS.WriteFile(path, data, 0o644)
}

// storeRoots makes chain the stored roots.
func (s *State) storeRoots(chain []*Root) error {
	if err := s.cfg.FS.MkdirAll(s.cfg.Dir, 0o755); err != nil {
		return err
	}
	for _, r := range chain {
		if err := s.put(FileName(RoleRoot, r.version), r.raw); err != nil {
			return err
		}
	}
	s.roots = chain
	return nil
}

// prune removes the snapshot and targets files older than the set before the current one, which a
// client may still be reading, and what a crash left behind.
func (s *State) prune() error {
	if err := s.cfg.FS.RemoveTemps(s.cfg.Dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, role := range []Role{RoleTargets, RoleSnapshot} {
		stored, err := s.versions(role)
		if err != nil {
			return err
		}
		i := slices.Index(stored, s.current.Version(role))
		for _, v := range stored[:max(i-1, 0)] {
			if err := s.cfg.FS.Remove(filepath.Join(s.cfg.Dir, FileName(role, v))); err != nil {
				return err
			}
		}
	}
	return nil
}
