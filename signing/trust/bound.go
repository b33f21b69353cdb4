package trust

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/update"
)

// A Binding is a name that had a digest and gets another one.
type Binding struct {
	Name     update.Name
	Was, Now update.Digest
}

// String says for people what became of the name.
func (b Binding) String() string {
	return fmt.Sprintf("%v: it had digest %v, in a list by keys that the root has replaced, and now has %v", b.Name, b.Was, b.Now)
}

// Rebound returns the names that r, which was accepted, binds to another digest than l remembers: it may, where a root has
// replaced the release keys since.
func (l *Ledger) Rebound(r *Repository) (out []Binding) {
	l = l.under(r.chain)
	for _, rel := range r.targets.releases {
		if was, ok := l.digests[rel.Name()]; ok && was != rel.Digest() {
			out = append(out, Binding{rel.Name(), was, rel.Digest()})
		}
	}
	return out
}

// replacedAt returns the version of the newest root of a chain that replaced the release keys: of those of an older root so
// many are gone that they could have signed a list by themselves. It is 0 where none did.
func replacedAt(chain []*Root) (version int64) {
	first := 0 // the oldest root whose lists have not been dealt with
	for i, root := range chain {
		for _, older := range chain[first:i] {
			gone := without(older.roles[RoleTargets].keys, root.roles[RoleTargets].keys)
			if len(gone) >= older.Threshold(RoleTargets) {
				version, first = root.version, i
				break
			}
		}
	}
	return version
}

// under returns l as the newest root of a chain has it: what was learned from lists before a root that replaced the release
// keys may be bound anew, once. A thief of these keys may have listed it.
func (l *Ledger) under(chain []*Root) *Ledger {
	return l.after(replacedAt(slices.Concat(l.roots, chain)))
}

// after returns l as it is where that root replaced the release keys.
func (l *Ledger) after(since int64) *Ledger {
	if since <= l.since {
		return l
	}
	out := &Ledger{l.digests, l.roots, since, make(map[update.Name]bool, len(l.digests))}
	for n := range l.digests {
		out.rebindable[n] = true
	}
	return out
}

// following returns l as a list that is to follow r has it: the names that r lists keep their digests, whatever the ledger of whoever
// asks knows of them. It may end before the release keys were replaced, or be empty.
func (l *Ledger) following(r *Repository) *Ledger {
	return l.under(r.chain).rebound(r.targets.releases)
}

// boundName is the file that holds what of a ledger was learned since that root, which replaced the release keys: those
// names are bound for good. It has the form of the ledger.
func boundName(since int64) string { return fmt.Sprintf("%d.%s", since, LedgerName) }

// bound returns the content of that file.
func (l *Ledger) bound() []byte {
	out := Ledger{digests: make(map[update.Name]update.Digest, len(l.digests)-len(l.rebindable))}
	for n, d := range l.digests {
		if !l.rebindable[n] {
			out.digests[n] = d
		}
	}
	return out.Bytes()
}

// loadBound reads which names of the ledger are bound for good, from the file and its copy: each line that the ledger has too
// counts. A file that is missing, since a crash came before it, or can't be read binds none: what is listed now is
// learned again.
//
// Where a newer root was pinned than the ledger began under, its chain alone does not tell which keys were replaced. The older
// roots that are stored tell it; where they don't lead to the pinned one, all that was learned may be from before. And a
// file of this kind was written under a root that did replace them.
func (s *State) loadBound() {
	roots, whole := s.olderRoots()
	s.ledger.roots = roots
	since := s.newestBound()
	if !whole {
		since = max(since, slices.Concat(roots, s.roots)[0].version)
	}
	s.ledger = s.ledger.under(s.roots).after(since)
	if s.ledger.since == 0 {
		return
	}
	path := filepath.Join(s.cfg.Dir, boundName(s.ledger.since))
	for _, p := range []string{path, disk.CopyPath(path)} {
		raw, err := readFile(p, maxLedger)
		if err != nil && !errors.Is(err, ErrNotFound) {
			s.damaged(err)
		}
		for line := range bytes.Lines(raw) {
			if d, n, err := update.ParseChecksumLine(line); err == nil && s.ledger.digests[n] == d {
				delete(s.ledger.rebindable, n)
			}
		}
	}
}

// olderRoots returns the stored roots that lead to the first one of the chain, and whether they begin with the oldest that is
// stored.
func (s *State) olderRoots() (older []*Root, whole bool) {
	stored, err := s.versions(RoleRoot)
	if err != nil {
		return nil, true // then the chain was not read either
	}
	next := s.roots[0]
	for _, v := range slices.Backward(stored) {
		if v >= next.version {
			continue
		}
		var root *Root
		err := s.load(RoleRoot, v, func(raw []byte) (err error) {
			if root, err = ParseRoot(raw); err != nil {
				return err
			}
			return verifyRootChain(root, next)
		})
		if err != nil {
			return older, false
		}
		older, next = slices.Insert(older, 0, root), root
	}
	return older, true
}

// newestBound returns the newest root that a stored file of names that are bound for good is of, 0 for none.
func (s *State) newestBound() (newest int64) {
	files, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		return 0
	}
	for _, f := range files {
		number, ok := strings.CutSuffix(f.Name(), "."+LedgerName)
		if v, err := strconv.ParseInt(number, 10, 64); ok && err == nil && boundName(v) == f.Name() {
			newest = max(newest, v)
		}
	}
	return newest
}

// storeBound stores which names are bound for good. It comes after the ledger: after a crash in between a name that is bound
// anew is rebindable and has its new digest.
func (s *State) storeBound(l *Ledger) error {
	if l.since == 0 {
		return nil
	}
	if err := s.put(boundName(l.since), l.bound()); err != nil {
		return err
	}
	if old := s.ledger.since; old != 0 && old != l.since {
		return s.cfg.FS.RemoveState(filepath.Join(s.cfg.Dir, boundName(old)))
	}
	return nil
}
