package trust

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/openpowerquality/box-update-server/internal/disk"
)

// Damage says which stored files the disk damaged, as Open found it: what they held came from their copies, from the
// pinned root, or, for the ledger, from the list. Mend writes them again.
func (s *State) Damage() []error { return s.damage }

func (s *State) damaged(err error) { s.damage = append(s.damage, err) }

// Mend writes again what Open found damaged, and the copies that are missing.
func (s *State) Mend() error {
	if s.current == nil && len(s.damage) == 0 {
		return nil // there may be nothing at all yet
	}
	stored, err := s.versions(RoleRoot)
	if err != nil {
		return err
	}
	for _, r := range s.roots {
		// Beyond those that are stored are some that are remembered, without a set of their own.
		if len(stored) > 0 && r.version <= stored[len(stored)-1] {
			if err := s.put(FileName(RoleRoot, r.version), r.raw); err != nil {
				return err
			}
		}
	}
	if s.floor > 0 {
		return nil // what roots vouch for waits for them
	}
	if err := errors.Join(s.storeLedger(s.ledger), s.storeBound(s.ledger)); err != nil {
		return err
	}
	if s.current == nil {
		return nil
	}
	for _, role := range []Role{RoleTargets, RoleSnapshot, RoleTimestamp} {
		if err := s.put(FileName(role, s.current.Version(role)), s.current.Raw(role)); err != nil {
			return err
		}
	}
	return nil
}

// whole returns s as a chain of roots makes it that leads to the newest one that was there; s itself where no root is
// damaged. With less than that root no chain is believed, so that it can't bring a revoked key back; nor is one that has
// another root in the place of one that is intact, because whoever has the revoked keys of an older root can make such a
// chain.
func (s *State) whole(chain []*Root) (*State, error) {
	if s.floor == 0 {
		return s, nil
	}
	if err := s.admitRoots(chain); err != nil {
		return nil, err
	}
	chain = s.joined(chain)
	for _, r := range chain {
		raw, err := s.read(RoleRoot, r.version)
		if err != nil {
			continue
		}
		had, err := ParseRoot(raw)
		if err == nil && had.version == r.version && !bytes.Equal(had.signed, r.signed) {
			return nil, fmt.Errorf("%s: %w: the one that was accepted before has digest %v, and this one %v", r.name(), ErrFork, had.Digest(), r.Digest())
		}
	}
	chain = slices.DeleteFunc(chain, func(r *Root) bool { return r.version > s.floor }) // those are new
	out := &State{cfg: s.cfg, roots: chain, damage: s.damage, rootsAsked: s.rootsAsked}
	if err := out.loadRest(); err != nil {
		return nil, err
	}
	return out, nil
}

// heal makes s whole, and stores the roots that were damaged.
func (s *State) heal(chain []*Root) error {
	out, err := s.whole(chain)
	if err != nil || out == s {
		return err
	}
	if err := out.storeRoots(out.roots); err != nil {
		return err
	}
	*s = *out
	return nil
}

// load hands a stored file to verify, and its copy where the file is refused. The error is an *fs.PathError, which names
// the file.
func (s *State) load(role Role, version int64, verify func(raw []byte) error) error {
	raw, err := s.read(role, version)
	if err == nil {
		err = verify(raw)
	}
	if err == nil {
		return nil
	}
	path := filepath.Join(s.cfg.Dir, FileName(role, version))
	copied, copyErr := readFile(disk.CopyPath(path), MaxLength(role))
	if copyErr != nil || bytes.Equal(copied, raw) || verify(copied) != nil {
		if in := (*fs.PathError)(nil); errors.As(err, &in) && in.Path == path {
			return err // it names the file already
		}
		return &fs.PathError{Op: "read", Path: path, Err: err}
	}
	s.damaged(fmt.Errorf("%s: %w; its copy is used", path, err))
	return nil
}

// loadLedger reads the ledger. One that is lost is not missed by much: what the list has is learned anew, and signed
// lists are all that any name comes from.
func (s *State) loadLedger() error {
	path := filepath.Join(s.cfg.Dir, LedgerName)
	raw, damage, err := disk.ReadState(path, maxLedger, func(raw []byte) error {
		_, err := ParseLedger(raw)
		return err
	})
	if errors.Is(err, os.ErrNotExist) {
		raw, err = nil, nil
	}
	if errors.Is(err, disk.ErrDamaged) {
		raw, damage, err = nil, fmt.Errorf("%w; it begins anew with the names of the list", err), nil
	}
	if err != nil {
		return err
	}
	if s.ledger, err = ParseLedger(raw); err != nil {
		return err
	}
	if damage != nil {
		if grown := s.grownLedger(); grown != nil {
			s.ledger = grown // the next Commit replaces the copy
		} else {
			s.damaged(damage)
		}
	}
	s.loadBound()
	return nil
}

// grownLedger returns the ledger that the file holds where it has more than s.ledger, and all of that; else nil. Where s.ledger
// is of the copy, an older program, which writes no copies, added to the file: no turned bit adds a line.
func (s *State) grownLedger() *Ledger {
	raw, err := readFile(filepath.Join(s.cfg.Dir, LedgerName), maxLedger)
	if err != nil {
		return nil
	}
	l, err := ParseLedger(raw)
	if err != nil || l.Len() <= s.ledger.Len() {
		return nil
	}
	for n, d := range s.ledger.digests {
		if l.digests[n] != d {
			return nil
		}
	}
	return l
}

// storeLedger writes the ledger, where it differs from what is there.
func (s *State) storeLedger(l *Ledger) error {
	path := filepath.Join(s.cfg.Dir, LedgerName)
	old, damage, err := disk.ReadState(path, maxLedger, nil)
	if _, noCopy := os.Lstat(disk.CopyPath(path)); err == nil && damage == nil && noCopy == nil && bytes.Equal(old, l.Bytes()) || l.Len() == 0 {
		return nil
	}
	return s.cfg.FS.WriteState(path, l.Bytes(), 0o644)
}

// learn adds what the newest list has to the ledger in memory: a ledger that was lost, or is older than the list, is
// as good as can be. The list was accepted under the ledger, so that where they differ it is the ledger that the disk
// damaged.
func (s *State) learn() {
	if s.memory.targets == nil {
		return
	}
	releases := s.memory.targets.releases
	for _, r := range releases {
		if s.ledger.check(r.Name(), r.Digest()) != nil {
			had, _ := s.ledger.Digest(r.Name())
			s.damaged(fmt.Errorf("%s: %w: %v: expected digest %v, which the list has, got %v", filepath.Join(s.cfg.Dir, LedgerName), disk.ErrDamaged, r.Name(), r.Digest(), had))
			break // a damaged file is told once
		}
	}
	s.ledger = s.ledger.rebound(releases)
}

// removeCopies removes the copies of files that are gone.
func (s *State) removeCopies() error {
	names, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		return err
	}
	for _, e := range names {
		of, isCopy := strings.CutSuffix(e.Name(), disk.CopyPath(""))
		_, _, signed := ParseFileName(of)
		there := slices.ContainsFunc(names, func(e os.DirEntry) bool { return e.Name() == of })
		if isCopy && signed && !there {
			if err := s.cfg.FS.Remove(filepath.Join(s.cfg.Dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
