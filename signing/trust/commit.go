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

// Commit makes r the current repository, durably. It writes roots, ledger, targets, snapshot and, last, the
// timestamp. After an error, or a crash at any instant, the directory holds the old repository or the new one, whole;
// Open tells which. In a directory that is served, every archive that r lists must be in place before the call.
//
// Commit refuses a repository older than the current one with ErrRollback, another digest for a name with
// ErrSecondDigest, and one that follows from other roots with ErrFork.
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

// admit checks r against the stored set and returns the memory that holds r. What was accepted since and is not a
// whole set is not compared here: Refresh judged r by it before.
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

// admitRoots checks that chain continues the roots of s and does not end with an older one.
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

// joined returns the roots of s, followed by those of chain that are newer.
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
			// A file that a failed commit left is written again: it is in force from this commit on, and Prune counts
			// from its modification time.
			put = s.write
		}
		if err := put(FileName(role, r.Version(role)), r.Raw(role)); err != nil {
			return err
		}
	}
	// A file that was there already may be from a run that crashed before it synced the directory.
	return s.cfg.FS.SyncDir(s.cfg.Dir)
}

// put writes a file and its copy, each unless it has those bytes already.
func (s *State) put(name string, data []byte) error {
	if err := s.putCopy(name, data); err != nil || s.has(name, data) {
		return err
	}
	return s.cfg.FS.WriteFile(filepath.Join(s.cfg.Dir, name), data, 0o644)
}

// write is like put, but always writes the file itself.
func (s *State) write(name string, data []byte) error {
	if err := s.putCopy(name, data); err != nil {
		return err
	}
	return s.cfg.FS.WriteFile(filepath.Join(s.cfg.Dir, name), data, 0o644)
}

// putCopy writes the copy of a file if others read the directory: there may be nobody to fetch the file from again. A
// copy that exists, such as those in the store of a box, is always replaced: an outdated one would bring an older
// file back.
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

// storeRoots stores the roots of chain and makes them the roots of s.
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

// maxSuperseded bounds the superseded files that are kept, in bytes: a thief of the online key can make any number of
// snapshots.
const maxSuperseded = 64 << 20

// Superseded is what Prune removed, or would remove, and what it leaves.
type Superseded struct {
	Files     []string // names of those removed
	Bytes     int64
	Kept      int
	KeptBytes int64
}

// Prune removes the snapshot and targets files that were superseded longer ago than Config.Superseded, and temporary
// files and copies that a crash left behind. If Config.Superseded is 0, the set before the current one stays whatever
// its age. With dry, Prune only reports what it would remove.
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

// spared reports whether version stored[i] of a role, which is superseded, is young enough to stay.
//
// A version was superseded when the next one was written here. That is the modification time of the next one, which
// outlives restarts and copies of the directory. Its time of issue would be too early, because a mirror serves the
// old one until its own sync.
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
		// A clock that was ahead must not keep withdrawn archives for years, so the time is counted from now. If
		// Chtimes fails, the file only stays for longer.
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
