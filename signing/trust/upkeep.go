package trust

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
)

// Damage returns an error for each stored file that Open found damaged. Their contents came from their copies, from
// the pinned root or, for the ledger, from the list. RewriteDamaged writes them again.
func (s *State) Damage() []error { return s.damage }

func (s *State) damaged(err error) { s.damage = append(s.damage, err) }

// RewriteDamaged writes again what Open found damaged, and the copies that are missing.
func (s *State) RewriteDamaged() error {
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
			if err := s.put(FileName(RoleRoot, r.version), r.raw, false); err != nil {
				return err
			}
		}
	}
	if s.lostBelow > 0 {
		return nil // nothing else can be verified before the roots are back
	}
	if err := errors.Join(s.storeLedger(s.ledger), s.storeBound(s.ledger)); err != nil {
		return err
	}
	if s.current == nil {
		return nil
	}
	for _, role := range slices.Backward(readingOrder()) {
		name, raw := FileName(role, s.current.Version(role)), s.current.Raw(role)
		if len(s.damage) == 0 { // Open read the files themselves, and a full list is long
			err = s.putCopy(name, raw)
		} else {
			err = s.put(name, raw, false)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// openedWith returns s as Open would have read it with the damaged roots taken from chain; s itself if no root is damaged.
// The chain must lead to the newest root that was stored, or it could bring a revoked key back. It must also agree
// with every stored root that is intact: a thief of the revoked keys of an older root can make another chain.
func (s *State) openedWith(chain []*Root) (*State, error) {
	if s.lostBelow == 0 {
		return s, nil
	}
	chain, err := s.continued(chain)
	if err != nil {
		return nil, err
	}
	for _, r := range chain {
		raw, err := s.readFile(FileName(RoleRoot, r.version), MaxLength(RoleRoot))
		if err != nil {
			continue
		}
		had, err := ParseRoot(raw)
		if err == nil && had.version == r.version && !bytes.Equal(had.signed, r.signed) {
			return nil, fmt.Errorf("%s: %w: the one that was accepted before has digest %v, and this one %v", r.name(), ErrFork, had.Digest(), r.Digest())
		}
	}
	chain = slices.DeleteFunc(chain, func(r *Root) bool { return r.version > s.lostBelow }) // these were never stored
	out := &State{cfg: s.cfg, roots: chain, damage: s.damage, rootsAsked: s.rootsAsked}
	if err := out.loadRest(); err != nil {
		return nil, err
	}
	return out, nil
}

// restoreRoots makes s what openedWith returns, and stores the roots that were damaged.
func (s *State) restoreRoots(chain []*Root) error {
	out, err := s.openedWith(chain)
	if err != nil || out == s {
		return err
	}
	if err := out.storeRoots(out.roots); err != nil {
		return err
	}
	*s = *out
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
	for _, role := range []Role{RoleSnapshot, RoleTargets} {
		stored, err := s.versions(role)
		if err != nil {
			return out, err
		}
		older := stored[:max(slices.Index(stored, s.current.Version(role)), 0)]
		for i, v := range slices.Backward(older) {
			name := FileName(role, v)
			info, err := os.Lstat(s.path(name))
			if err != nil {
				return out, err
			}
			if out.KeptBytes+info.Size() <= maxSuperseded && s.spared(role, stored, i, dry) {
				out.Kept, out.KeptBytes = out.Kept+1, out.KeptBytes+info.Size()
			} else {
				out.Files, out.Bytes = append(out.Files, name), out.Bytes+info.Size()
			}
		}
	}
	if dry {
		return out, nil
	}
	if err := s.cfg.FS.RemoveTemps(s.cfg.Dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return out, err
	}
	for _, name := range out.Files {
		if err := s.cfg.FS.Remove(s.path(name)); err != nil {
			return out, err
		}
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
	next := s.path(FileName(role, stored[i+1]))
	info, err := os.Lstat(next)
	if err != nil {
		return false
	}
	now := s.cfg.Now()
	if info.ModTime().After(now) && !dry {
		// A clock that was ahead must not keep withdrawn archives for years, so the time is counted from now. If
		// Chtimes fails, the file only stays for longer.
		_ = os.Chtimes(next, time.Time{}, now)
	}
	return now.Sub(info.ModTime()) < s.cfg.Superseded
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
			if err := s.cfg.FS.Remove(s.path(e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
