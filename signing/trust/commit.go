package trust

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
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
	if err := s.heal(r.chain); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	m, err := s.admit(r)
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	ledger, err := s.ledger.under(s.joined(r.chain)).with(r.targets.releases)
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if err := s.store(r, ledger); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	s.roots, s.set, s.current, s.problem, s.ledger = s.joined(r.chain), m, r, nil, ledger
	s.memory = m.newest(s.memory.stillValid(s.Root()))
	_, err = s.Prune(false)
	return errors.Join(err, s.forget())
}

// admit checks r against the stored set and returns the memory that holds r. What was accepted since and is
// no whole set does not count here: Refresh judged r by it before.
func (s *State) admit(r *Repository) (memory, error) {
	if err := s.admitRoots(r.chain); err != nil {
		return memory{}, err
	}
	m := s.set.stillValid(r.root)
	if err := errors.Join(m.checkTimestamp(r.timestamp), m.checkSnapshot(r.snapshot), m.checkTargets(r.targets)); err != nil {
		return memory{}, err
	}
	return memory{r.timestamp, r.snapshot, r.targets}, nil
}

// admitRoots checks that a chain goes on from the roots of s, and ends with none that is older.
func (s *State) admitRoots(chain []*Root) error {
	for _, mine := range s.roots {
		i := slices.IndexFunc(chain, func(theirs *Root) bool { return theirs.version == mine.version })
		if i >= 0 && string(chain[i].raw) != string(mine.raw) {
			return fmt.Errorf("%s: %w", mine.name(), ErrFork)
		}
	}
	newest := chain[len(chain)-1]
	if had := max(s.Root().version, s.floor); newest.version < had {
		return rollback(newest.name(), had)
	}
	if chain[0].version > s.Root().version {
		return verifyRootChain(s.Root(), chain[0])
	}
	return nil
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

func (s *State) store(r *Repository, ledger *Ledger) error {
	if err := s.storeRoots(s.joined(r.chain)); err != nil {
		return err
	}
	if err := s.storeLedger(ledger); err != nil {
		return err
	}
	if err := s.storeBound(ledger); err != nil {
		return err
	}
	for _, role := range []Role{RoleTargets, RoleSnapshot, RoleTimestamp} {
		put := s.put
		if s.current == nil || s.current.Version(role) != r.Version(role) {
			// What a commit that failed left is written again: from this commit on it is in force, and
			// Prune counts from its modification time.
			put = s.write
		}
		if err := put(FileName(role, r.Version(role)), r.Raw(role)); err != nil {
			return err
		}
	}
	// What was there already may come from a crash before the directory was synced.
	return s.cfg.FS.SyncDir(s.cfg.Dir)
}

// put writes a file and its copy, each unless it has those bytes already.
func (s *State) put(name string, data []byte) error {
	if err := s.putCopy(name, data); err != nil || s.has(name, data) {
		return err
	}
	return s.cfg.FS.WriteFile(filepath.Join(s.cfg.Dir, name), data, 0o644)
}

// write is put, and writes the file in any case.
func (s *State) write(name string, data []byte) error {
	if err := s.putCopy(name, data); err != nil {
		return err
	}
	return s.cfg.FS.WriteFile(filepath.Join(s.cfg.Dir, name), data, 0o644)
}

// putCopy writes the copy of a file that others read: nobody may be there to fetch it from again. A copy that is there already,
// as the store of a box makes them, must not stay behind: it would bring an older file back.
func (s *State) putCopy(name string, data []byte) error {
	name = disk.CopyPath(name)
	_, none := os.Lstat(filepath.Join(s.cfg.Dir, name))
	if none != nil && !s.cfg.DeferRoots || s.has(name, data) {
		return nil
	}
	return s.cfg.FS.WriteFile(filepath.Join(s.cfg.Dir, name), data, 0o644)
}

func (s *State) has(name string, data []byte) bool {
	old, err := readFile(filepath.Join(s.cfg.Dir, name), int64(len(data)))
	return err == nil && bytes.Equal(old, data)
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

// maxSuperseded bounds the superseded files that are kept, in bytes: an online key in the wrong hands can make
// any number of snapshots.
const maxSuperseded = 64 << 20

// Superseded is what Prune removed, or would remove, and what it leaves.
type Superseded struct {
	Files     []string // names of those removed
	Bytes     int64
	Kept      int
	KeptBytes int64
}

// Prune removes the snapshot and targets files that were superseded for Config.Superseded, and what a crash
// left behind. Where that is 0, the set before the current one is left alone whatever its age. dry only tells.
func (s *State) Prune(dry bool) (Superseded, error) {
	var out Superseded
	if s.current == nil {
		return out, nil
	}
	if !dry {
		if err := s.cfg.FS.RemoveTemps(s.cfg.Dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return out, err
		}
	}
	for _, role := range []Role{RoleSnapshot, RoleTargets} {
		stored, err := s.versions(role)
		if err != nil {
			return out, err
		}
		older := stored[:max(slices.Index(stored, s.current.Version(role)), 0)]
		for i, v := range slices.Backward(older) {
			path := filepath.Join(s.cfg.Dir, FileName(role, v))
			info, err := os.Lstat(path)
			if err != nil {
				return out, err
			}
			if out.KeptBytes+info.Size() <= maxSuperseded && s.spared(role, stored, i, dry) {
				out.Kept, out.KeptBytes = out.Kept+1, out.KeptBytes+info.Size()
				continue
			}
			out.Files, out.Bytes = append(out.Files, FileName(role, v)), out.Bytes+info.Size()
			if dry {
				continue
			}
			if err := s.cfg.FS.Remove(path); err != nil {
				return out, err
			}
		}
	}
	if dry {
		return out, nil
	}
	return out, s.removeCopies()
}

// spared reports whether the age of the stored version i of a role, which is superseded, lets it stay.
//
// It was superseded when the next one was written here. That is the modification time of the next one, which
// outlives restarts and copies of the directory. When the next one was issued says less: a mirror
// goes on serving the old one until its own sync.
func (s *State) spared(role Role, stored []int64, i int, dry bool) bool {
	if s.cfg.Superseded == 0 {
		return stored[i+1] == s.current.Version(role)
	}
	next := filepath.Join(s.cfg.Dir, FileName(role, stored[i+1]))
	info, err := os.Lstat(next)
	if err != nil {
		return false
	}
	now := s.now()
	if info.ModTime().After(now) && !dry {
		// A clock that was ahead must not keep withdrawn archives for years: the time begins anew. Where that
		// fails, the file only stays for longer.
		_ = os.Chtimes(next, time.Time{}, now)
	}
	return now.Sub(info.ModTime()) < s.cfg.Superseded
}

func (s *State) now() time.Time {
	if s.cfg.Now == nil {
		return time.Now()
	}
	return s.cfg.Now()
}
