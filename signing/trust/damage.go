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

// Damage returns an error for each stored file that Open found damaged. Their contents came from their copies, from
// the pinned root or, for the ledger, from the list. Mend writes them again.
func (s *State) Damage() []error { return s.damage }

func (s *State) damaged(err error) { s.damage = append(s.damage, err) }

// Mend writes again what Open found damaged, and the copies that are missing.
func (s *State) Mend() error {
	if s.current == nil && len(s.damage) == 0 {
		return nil // a directory that is still empty stays so
	}
	stored, err := s.versions(RoleRoot)
	if err != nil {
		return err
	}
	for _, r := range s.roots {
		// Newer roots than the stored ones are only remembered: they have no set of their own yet.
		if len(stored) > 0 && r.version <= stored[len(stored)-1] {
			if err := s.put(FileName(RoleRoot, r.version), r.raw); err != nil {
				return err
			}
		}
	}
	if s.floor > 0 {
		return nil // nothing else can be verified before the roots are back
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

// whole returns s as Open would have read it with the damaged roots taken from chain; s itself if no root is damaged.
// The chain must lead to the newest root that was stored, or it could bring a revoked key back. It must also agree
// with every stored root that is intact: a thief of the revoked keys of an older root can make another chain.
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
	chain = slices.DeleteFunc(chain, func(r *Root) bool { return r.version > s.floor }) // these were never stored
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

// removeCopies removes each copy whose file no longer exists.
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
