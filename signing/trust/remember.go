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
)

// memory is what was accepted before; new metadata must not go back behind it. A part is nil if nothing was accepted,
// or if a newer root revoked the keys that had signed it. Then its version numbers no longer count: that is how boxes
// recover from a thief who signed high ones.
type memory struct {
	timestamp *online
	snapshot  *online
	targets   *targets
}

// stillValid returns the parts of m that a newer root still accepts. Timestamp and snapshot are forgotten together
// (TUF 1.0, 5.3.11).
func (m memory) stillValid(root *Root) memory {
	online := (m.timestamp == nil || verify(root, m.timestamp.file) == nil) &&
		(m.snapshot == nil || verify(root, m.snapshot.file) == nil)
	if !online {
		m.timestamp, m.snapshot = nil, nil
	}
	if m.targets != nil && verify(root, m.targets.file) != nil {
		m.targets = nil
	}
	return m
}

// newest returns, for each part, the newer one of m and other, and that of m if their versions are equal.
func (m memory) newest(other memory) memory {
	if other.timestamp != nil && (m.timestamp == nil || other.timestamp.version > m.timestamp.version) {
		m.timestamp = other.timestamp
	}
	if other.snapshot != nil && (m.snapshot == nil || other.snapshot.version > m.snapshot.version) {
		m.snapshot = other.snapshot
	}
	if other.targets != nil && (m.targets == nil || other.targets.version > m.targets.version) {
		m.targets = other.targets
	}
	return m
}

// checkTimestamp refuses, with ErrRollback, a timestamp that is older than the accepted one, or that names an older
// snapshot. Equal versions are accepted.
func (m memory) checkTimestamp(ts *online) error {
	if m.timestamp == nil {
		return nil
	}
	if ts.version < m.timestamp.version {
		return rollback(ts.name(), m.timestamp.version)
	}
	if ts.next.version < m.timestamp.next.version {
		return rollback(fmt.Sprintf("%s names %s", ts.name(), ts.next.name()), m.timestamp.next.version)
	}
	return nil
}

// checkSnapshot refuses, with ErrRollback, a snapshot that names a targets file older than the accepted one.
func (m memory) checkSnapshot(sn *online) error {
	if m.snapshot != nil && sn.next.version < m.snapshot.next.version {
		return rollback(fmt.Sprintf("%s names %s", sn.name(), sn.next.name()), m.snapshot.next.version)
	}
	if m.targets != nil && sn.next.version < m.targets.version {
		return rollback(fmt.Sprintf("%s names %s", sn.name(), sn.next.name()), m.targets.version)
	}
	return nil
}

// checkTargets refuses a list older than the accepted one with ErrRollback, and another list under its version with
// ErrFork. The same list with more signatures is not another list.
func (m memory) checkTargets(tg *targets) error {
	if m.targets == nil || tg.version > m.targets.version {
		return nil
	}
	if tg.version < m.targets.version {
		return rollback(tg.name(), m.targets.version)
	}
	if !bytes.Equal(tg.signed, m.targets.signed) {
		return fmt.Errorf("%s: %w: another list with this number was accepted before; a release signer must publish one with a higher number", tg.name(), ErrFork)
	}
	return nil
}

func rollback(what string, had int64) error {
	return fmt.Errorf("%s: %w: version %d was; ask another mirror, this one is behind or hostile", what, ErrRollback, had)
}

// rememberedDir is the directory, within that of a State, for what was accepted and is not a whole set yet:
//
//	2.root.json …                                  newer roots without a set of their own; only with Config.DeferRoots
//	timestamp.json, snapshot.json, targets.json    the newest of each that is not in the set
//
// Each file is signed and is verified again when it is read; a damaged one counts as missing. A program that doesn't
// know the directory works without it.
const rememberedDir = "remembered"

// Seen is what one Look accepted. Each file counts as soon as it is verified (TUF 1.0, 5.3 to 5.6), whether or not
// the rest can be fetched.
type Seen struct {
	Repository *Repository // the newest; the current one itself if nothing is new; nil: no whole one

	chain  []*Root
	memory memory
	asked  time.Time // when the source said that there is no newer root; zero: it did not
}

// Remember stores what a Look accepted, durably, beside the current repository, which stays current. Looks may be
// remembered in any order, and a Commit may have come in between.
func (s *State) Remember(seen Seen) error {
	if err := s.adopt(seen.chain); err != nil {
		return fmt.Errorf("remember what was accepted: %w", err)
	}
	s.memory = s.memory.newest(seen.memory.stillValid(s.Root()))
	if !seen.asked.IsZero() {
		s.rootsAsked = seen.asked
	}
	if err := s.storeRemembered(); err != nil {
		return fmt.Errorf("remember what was accepted: %w", err)
	}
	return nil
}

func (s *State) remembered(name string) string { return filepath.Join(s.cfg.Dir, rememberedDir, name) }

// adopt takes over the new roots of a chain and forgets what the newest of them no longer accepts.
func (s *State) adopt(chain []*Root) error {
	if len(chain) == 0 {
		return nil // too few of the damaged roots could be fetched
	}
	if err := s.heal(chain); err != nil {
		return err
	}
	mine := s.Root()
	i := slices.IndexFunc(chain, func(r *Root) bool { return r.version == mine.version })
	if i < 0 || i == len(chain)-1 {
		return nil // older, or nothing new
	}
	if string(chain[i].raw) != string(mine.raw) {
		return fmt.Errorf("%s: %w", mine.name(), ErrFork)
	}
	fresh := chain[i+1:]
	if s.cfg.DeferRoots { // the present set is served until one that fits the new roots is there too
		for _, r := range fresh {
			if err := s.putRemembered(FileName(RoleRoot, r.version), r.raw); err != nil {
				return err
			}
		}
		s.roots = slices.Concat(s.roots, fresh)
		s.memory = s.memory.stillValid(s.Root())
		return nil
	}
	if err := s.storeRoots(slices.Concat(s.roots, fresh)); err != nil {
		return err
	}
	s.memory = s.memory.stillValid(s.Root())
	s.set = s.set.stillValid(s.Root())
	if s.current != nil && (s.set.timestamp == nil || s.set.targets == nil) {
		s.current, s.problem = nil, fmt.Errorf("%s: %w: it no longer accepts what was current", s.Root().name(), ErrThreshold)
	}
	return nil
}

// storeRemembered writes the parts of memory that are not in the set.
func (s *State) storeRemembered() error {
	files := map[Role]*file{}
	if ts := s.memory.timestamp; ts != nil && ts != s.set.timestamp {
		files[RoleTimestamp] = ts.file
	}
	if sn := s.memory.snapshot; sn != nil && sn != s.set.snapshot {
		files[RoleSnapshot] = sn.file
	}
	if tg := s.memory.targets; tg != nil && tg != s.set.targets {
		files[RoleTargets] = tg.file
	}
	for role, f := range files {
		if err := s.putRemembered(string(role)+".json", f.raw); err != nil {
			return err
		}
	}
	return nil
}

func (s *State) putRemembered(name string, raw []byte) error {
	if err := s.cfg.FS.MkdirAll(filepath.Join(s.cfg.Dir, rememberedDir), 0o755); err != nil {
		return err
	}
	name = filepath.Join(rememberedDir, name)
	if s.has(name, raw) {
		return nil
	}
	return s.cfg.FS.WriteFile(filepath.Join(s.cfg.Dir, name), raw, 0o644)
}

// recall adds what was remembered to s.roots and s.memory. Files that are damaged, or signed with revoked keys, are
// ignored.
func (s *State) recall() {
	for {
		last := s.Root()
		raw, err := readFile(s.remembered(FileName(RoleRoot, last.version+1)), MaxLength(RoleRoot))
		if err != nil {
			break
		}
		next, err := last.openNext(raw)
		if err != nil {
			break
		}
		s.roots = append(s.roots, next)
	}
	root := s.Root()
	var m memory
	if raw, err := readFile(s.remembered(TimestampName), MaxLength(RoleTimestamp)); err == nil {
		if ts, err := openOnline(root, RoleTimestamp, raw); err == nil {
			m.timestamp = ts
		}
	}
	if raw, err := readFile(s.remembered("snapshot.json"), MaxLength(RoleSnapshot)); err == nil {
		if sn, err := openOnline(root, RoleSnapshot, raw); err == nil {
			m.snapshot = sn
		}
	}
	if raw, err := readFile(s.remembered("targets.json"), MaxLength(RoleTargets)); err == nil {
		m.targets, _ = parseTargets(root, raw, root.Threshold(RoleTargets))
	}
	s.memory = s.memory.stillValid(root).newest(m)
}

// forget removes remembered files that are in the set now or no longer count.
func (s *State) forget() error {
	entries, err := os.ReadDir(s.remembered(""))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := s.cfg.FS.RemoveTemps(s.remembered("")); err != nil {
		return err
	}
	keep := map[string]bool{
		TimestampName:   s.memory.timestamp != s.set.timestamp,
		"snapshot.json": s.memory.snapshot != s.set.snapshot,
		"targets.json":  s.memory.targets != s.set.targets,
	}
	for _, e := range entries {
		role, version, _ := ParseFileName(e.Name())
		if keep[e.Name()] || role == RoleRoot && version > s.current.root.version {
			continue
		}
		if err := s.cfg.FS.Remove(s.remembered(e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
