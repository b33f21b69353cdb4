package trust

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/openpowerquality/box-update-server/internal/disk"
)

// Commit makes r the current repository, durably. It writes roots, ledger, targets, snapshot and, last, the
// timestamp. After an error, or a crash at any instant, the directory holds the old repository or the new one, whole,
// and Open returns that one. In a directory that is served, every archive that r lists must be in place before the call.
//
// Commit refuses a repository older than the current one with ErrRollback, another digest for a name with
// ErrSecondDigest, and one that follows from other roots with ErrFork. What was accepted since the last Commit and is
// not a whole set is not compared here: Verify judged r by it before.
func (s *State) Commit(r *Repository) error {
	if r == nil {
		return errors.New("commit: no repository")
	}
	if err := s.commit(r); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	_, err := s.Prune(false)
	return errors.Join(err, s.forget())
}

func (s *State) commit(r *Repository) error {
	if err := s.restoreRoots(r.chain); err != nil {
		return err
	}
	chain, err := s.continued(r.chain)
	if err != nil {
		return err
	}
	had := s.set.acceptedBy(r.Root())
	for _, role := range readingOrder() {
		if err := had.check(r.files[role]); err != nil {
			return err
		}
	}
	ledger, err := s.ledger.underRoots(chain).add(r.list().releases)
	if err != nil {
		return err
	}
	if err := s.storeRoots(chain); err != nil {
		return err
	}
	if err := s.storeLedger(ledger); err != nil {
		return err
	}
	if err := s.storeBound(ledger); err != nil {
		return err
	}
	for _, role := range slices.Backward(readingOrder()) {
		// A file that a failed commit left is written again: it is in force from this commit on, and Prune counts from
		// its modification time.
		again := s.current == nil || s.current.Version(role) != r.Version(role)
		if err := s.put(FileName(role, r.Version(role)), r.Raw(role), again); err != nil {
			return err
		}
	}
	// A file that was there already may be from a run that crashed before it synced the directory.
	if err := s.cfg.FS.SyncDir(s.cfg.Dir); err != nil {
		return err
	}
	s.set, s.current, s.problem, s.ledger = r.files, r, nil, ledger
	s.trusted = r.files.withNewer(s.trusted.acceptedBy(s.Root()))
	return nil
}

// newer returns the roots of chain that follow the newest root of s. The error is ErrFork if chain and s have
// different roots of one version.
func (s *State) newer(chain []*Root) ([]*Root, error) {
	for _, mine := range s.roots {
		i := slices.IndexFunc(chain, func(theirs *Root) bool { return theirs.version == mine.version })
		if i >= 0 && !bytes.Equal(chain[i].raw, mine.raw) {
			return nil, fmt.Errorf("%s: %w", mine.name(), ErrFork)
		}
	}
	i := slices.IndexFunc(chain, func(r *Root) bool { return r.version > s.Root().version })
	if i < 0 {
		return nil, nil
	}
	return chain[i:], nil
}

// continued returns the roots of s and those of chain that are newer. It refuses a chain that does not follow from the
// roots of s with ErrFork, and one that ends with an older root with ErrRollback.
func (s *State) continued(chain []*Root) ([]*Root, error) {
	newer, err := s.newer(chain)
	if err != nil {
		return nil, err
	}
	if last, had := newest(chain), max(s.Root().version, s.lostBelow); last.version < had {
		return nil, rollback(last.name(), had)
	}
	if chain[0].version > s.Root().version {
		if err := s.Root().checkNext(chain[0]); err != nil {
			return nil, err
		}
	}
	return slices.Concat(s.roots, newer), nil
}

// put writes a file and its copy, each unless it has those bytes already; the file itself also then if again is set.
func (s *State) put(name string, data []byte, again bool) error {
	if err := s.putCopy(name, data); err != nil || !again && s.has(name, data) {
		return err
	}
	return s.write(name, data)
}

// putCopy writes the copy of a file if others read the directory: there may be nobody to fetch the file from again. A
// copy that exists, such as those in the store of a box, is always replaced: an outdated one would bring an older
// file back.
func (s *State) putCopy(name string, data []byte) error {
	name = disk.CopyPath(name)
	_, none := os.Lstat(s.path(name))
	if none != nil && !s.cfg.DeferRoots || s.has(name, data) {
		return nil
	}
	return s.write(name, data)
}

func (s *State) has(name string, data []byte) bool {
	old, err := s.readFile(name, int64(len(data)))
	return err == nil && bytes.Equal(old, data)
}

func (s *State) write(name string, data []byte) error {
	return s.cfg.FS.WriteFile(s.path(name), data, 0o644)
}

// storeRoots stores the roots of chain and makes them the roots of s.
func (s *State) storeRoots(chain []*Root) error {
	if err := s.cfg.FS.MkdirAll(s.cfg.Dir, 0o755); err != nil {
		return err
	}
	for _, r := range chain {
		if err := s.put(FileName(RoleRoot, r.version), r.raw, false); err != nil {
			return err
		}
	}
	s.roots = chain
	return nil
}

// rememberedDir is the directory, within that of a State, for what was accepted and is not a whole set yet:
//
//	2.root.json …                                  newer roots without a set of their own; only with Config.DeferRoots
//	timestamp.json, snapshot.json, targets.json    the newest of each that is not in the set
//
// Each file is signed and is verified again when it is read; a damaged one counts as missing. A program that doesn't
// know the directory works without it.
const rememberedDir = "remembered"

// rememberedName returns the name of a file there, relative to the directory of the State.
func rememberedName(role Role, version int64) string {
	if role != RoleRoot {
		return filepath.Join(rememberedDir, string(role)+".json")
	}
	return filepath.Join(rememberedDir, FileName(role, version))
}

// Remember stores what a Verify accepted, durably, beside the current repository, which stays current. Values may be
// remembered in any order, and a Commit may have come in between.
func (s *State) Remember(a Accepted) error {
	if err := s.remember(a); err != nil {
		return fmt.Errorf("remember what was accepted: %w", err)
	}
	return nil
}

func (s *State) remember(a Accepted) error {
	if len(a.chain) > 0 { // otherwise too few of the damaged roots could be fetched
		if err := s.addRoots(a.chain); err != nil {
			return err
		}
	}
	s.trusted = s.trusted.withNewer(a.files.acceptedBy(s.Root()))
	if !a.asked.IsZero() {
		s.rootsAsked = a.asked
	}
	for _, role := range readingOrder() {
		if f := s.trusted[role]; f != nil && f != s.set[role] {
			if err := s.putRemembered(f); err != nil {
				return err
			}
		}
	}
	return nil
}

// addRoots adds the newer roots of a chain and forgets what the newest of them no longer accepts.
func (s *State) addRoots(chain []*Root) error {
	if err := s.restoreRoots(chain); err != nil {
		return err
	}
	newer, err := s.newer(chain)
	if err != nil || len(newer) == 0 {
		return err
	}
	if s.cfg.DeferRoots { // the present set is served until one that fits the new roots is there too
		for _, r := range newer {
			if err := s.putRemembered(r.file); err != nil {
				return err
			}
		}
		s.roots = slices.Concat(s.roots, newer)
		s.trusted = s.trusted.acceptedBy(s.Root())
		return nil
	}
	if err := s.storeRoots(slices.Concat(s.roots, newer)); err != nil {
		return err
	}
	s.trusted = s.trusted.acceptedBy(s.Root())
	s.set = s.set.acceptedBy(s.Root())
	if s.current != nil && (s.set[RoleTimestamp] == nil || s.set[RoleTargets] == nil) {
		s.current, s.problem = nil, fmt.Errorf("%s: %w: it no longer accepts what was current", s.Root().name(), ErrThreshold)
	}
	return nil
}

func (s *State) putRemembered(f *file) error {
	if err := s.cfg.FS.MkdirAll(s.path(rememberedDir), 0o755); err != nil {
		return err
	}
	name := rememberedName(f.role, f.version)
	if s.has(name, f.raw) {
		return nil
	}
	return s.write(name, f.raw)
}

// loadRemembered adds what was remembered to s.roots and s.trusted. Files that are damaged, or signed with revoked
// keys, are ignored.
func (s *State) loadRemembered() {
	for {
		last := s.Root()
		raw, err := s.readFile(rememberedName(RoleRoot, last.version+1), MaxLength(RoleRoot))
		if err != nil {
			break
		}
		next, err := last.openNext(raw)
		if err != nil {
			break
		}
		s.roots = append(s.roots, next)
	}
	found := files{}
	for _, role := range readingOrder() {
		if raw, err := s.readFile(rememberedName(role, 0), MaxLength(role)); err == nil {
			if f, err := (link{role: role}).open(s.Root(), raw); err == nil {
				found[role] = f
			}
		}
	}
	s.trusted = s.trusted.acceptedBy(s.Root()).withNewer(found)
}

// forget removes remembered files that are in the set now or no longer count.
func (s *State) forget() error {
	dir := s.path(rememberedDir)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := s.cfg.FS.RemoveTemps(dir); err != nil {
		return err
	}
	keep := map[string]bool{}
	for _, role := range readingOrder() {
		keep[rememberedName(role, 0)] = s.trusted[role] != s.set[role]
	}
	for _, e := range entries {
		role, version, _ := ParseFileName(e.Name())
		if keep[filepath.Join(rememberedDir, e.Name())] || role == RoleRoot && version > s.current.Version(RoleRoot) {
			continue
		}
		if err := s.cfg.FS.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
