package trust

import (
	"bytes"
	"errors"
	"fmt"
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
	put := s.put
	if len(s.damage) == 0 {
		put = s.putCopy // Open read the files themselves, and a full list is long
	}
	for _, role := range []Role{RoleTargets, RoleSnapshot, RoleTimestamp} {
		if err := put(FileName(role, s.current.Version(role)), s.current.Raw(role)); err != nil {
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
		raw, err := readFile(filepath.Join(s.cfg.Dir, FileName(RoleRoot, r.version)), MaxLength(RoleRoot))
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
