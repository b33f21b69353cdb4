package trust

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/update"
)

// LedgerName is the file in a state directory that holds the ledger.
const LedgerName = "ledger"

// maxLedger bounds the ledger in bytes: some 150,000 names.
const maxLedger = 16 << 20

// Ledger remembers the digest of every name that was ever accepted, withdrawn names included, so that no name gets a
// second one unless the release keys were replaced since; see Rebound. It is immutable. The zero Ledger remembers
// nothing.
//
// Its file is a list of checksum lines, ascending by name: sha256sum -c reads it.
type Ledger struct {
	digests map[update.Name]update.Digest

	roots []*Root // the stored roots before the pinned one that lead to it; see loadBound
	since int64   // the newest root that replaced the release keys; 0: none
	// rebindable holds the names that were learned before root since and not again later. Each may be bound to
	// another digest, once.
	rebindable map[update.Name]bool
}

// ParseLedger parses what Bytes returns.
func ParseLedger(b []byte) (*Ledger, error) {
	if len(b) > maxLedger {
		return nil, fmt.Errorf("ledger: %w: more than %d bytes", ErrMalformed, maxLedger)
	}
	l := &Ledger{digests: make(map[update.Name]update.Digest, bytes.Count(b, []byte("\n")))}
	var last update.Name
	for line := range bytes.Lines(b) {
		d, n, err := update.ParseChecksumLine(line)
		if err != nil {
			return nil, fmt.Errorf("ledger: %w: %w", ErrMalformed, err)
		}
		if !last.IsZero() && n.Compare(last) <= 0 || d.IsZero() {
			return nil, fmt.Errorf("ledger: %w: expected a digest and names that ascend, got %v after %v", ErrMalformed, n, last)
		}
		l.digests[n], last = d, n
	}
	return l, nil
}

// Bytes returns the ledger as its file.
func (l *Ledger) Bytes() []byte {
	var out bytes.Buffer
	for _, n := range slices.SortedFunc(maps.Keys(l.digests), update.Name.Compare) {
		out.Write(update.ChecksumLine(l.digests[n], n))
	}
	return out.Bytes()
}

// Digest returns the digest that the name had when it was first accepted.
func (l *Ledger) Digest(n update.Name) (update.Digest, bool) {
	d, ok := l.digests[n]
	return d, ok
}

// Names returns the names that the ledger remembers, in no order.
func (l *Ledger) Names() iter.Seq[update.Name] { return maps.Keys(l.digests) }

// Len returns how many names the ledger remembers.
func (l *Ledger) Len() int { return len(l.digests) }

// check refuses, with ErrSecondDigest, a name that had another digest, unless it is rebindable.
func (l *Ledger) check(n update.Name, d update.Digest) error {
	if had, ok := l.digests[n]; ok && had != d && !l.rebindable[n] {
		return fmt.Errorf("%v: %w: it had %v and is offered with %v; build the update again under a new version", n, ErrSecondDigest, had, d)
	}
	return nil
}

// bind returns a ledger in which the names of the releases have their digests for good, whatever digests they had. It
// returns l itself if nothing changes.
func (l *Ledger) bind(releases []Release) *Ledger {
	out := l
	for _, r := range releases {
		if had, ok := l.digests[r.Name()]; ok && had == r.Digest() && !l.rebindable[r.Name()] {
			continue
		}
		if out == l {
			out = &Ledger{make(map[update.Name]update.Digest, len(l.digests)+len(releases)), l.roots, l.since, maps.Clone(l.rebindable)}
			maps.Copy(out.digests, l.digests)
		}
		out.digests[r.Name()] = r.Digest()
		delete(out.rebindable, r.Name())
	}
	return out
}

// add returns a ledger that remembers the releases too, l itself if nothing changes. The error is ErrSecondDigest.
func (l *Ledger) add(releases []Release) (*Ledger, error) {
	for _, r := range releases {
		if err := l.check(r.Name(), r.Digest()); err != nil {
			return nil, err
		}
	}
	return l.bind(releases), nil
}

// A Binding is a name that had a digest and gets another one.
type Binding struct {
	Name     update.Name
	Was, Now update.Digest
}

// String describes the binding for people.
func (b Binding) String() string {
	return fmt.Sprintf("%v: it had digest %v, in a list by keys that the root has replaced, and now has %v", b.Name, b.Was, b.Now)
}

// Rebound returns the names that r binds to another digest than l remembers. r was accepted, so a root has replaced
// the release keys since l learned them.
func (l *Ledger) Rebound(r *Repository) (out []Binding) {
	for _, rel := range r.list().releases {
		if was, ok := l.digests[rel.Name()]; ok && was != rel.Digest() {
			out = append(out, Binding{rel.Name(), was, rel.Digest()})
		}
	}
	return out
}

// replacedAt returns the version of the newest root of a chain that replaced the release keys, 0 if none did. A root
// replaces them if it lacks so many keys of an older root that these could have signed a list by themselves.
func replacedAt(chain []*Root) (version int64) {
	first := 0 // the oldest root whose lists may still count
	for i, root := range chain {
		for _, older := range chain[first:i] {
			gone := without(older.roles[RoleTargets].Keys, root.roles[RoleTargets].Keys)
			if len(gone) >= older.Threshold(RoleTargets) {
				version, first = root.version, i
				break
			}
		}
	}
	return version
}

// underRoots returns l as it is under the newest root of a chain. If a root replaced the release keys, names that were
// learned from lists before may be bound anew, once: a thief of the old keys may have listed them.
func (l *Ledger) underRoots(chain []*Root) *Ledger {
	return l.underRoot(replacedAt(slices.Concat(l.roots, chain)))
}

// underRoot returns l with all its names rebindable, because root since replaced the release keys; l itself if it knows
// of that root or of a newer one that did.
func (l *Ledger) underRoot(since int64) *Ledger {
	if since <= l.since {
		return l
	}
	out := &Ledger{l.digests, l.roots, since, make(map[update.Name]bool, len(l.digests))}
	for n := range l.digests {
		out.rebindable[n] = true
	}
	return out
}

// after returns l for checking a list that is to follow r. The names that r lists keep their digests, whatever l has
// for them: l may be empty, or end before the release keys were replaced.
func (l *Ledger) after(r *Repository) *Ledger {
	return l.underRoots(r.chain).bind(r.list().releases)
}

// boundName returns the name of the file with the names that are bound for good: those learned since that root, which
// replaced the release keys. The file has the format of the ledger.
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

// loadBound reads which names of the ledger are bound for good, from the file and its copy. A line counts if the
// ledger has it too. A file that is missing or can't be read binds no name; a crash before it was written leaves
// none. The names that are listed now are learned again.
//
// If the pinned root is newer than the ledger's first, the chain from it does not show which keys were replaced. Then
// the older stored roots show it; if they don't lead to the pinned one, everything learned may be from before a
// replacement. A file of this kind also proves that its root replaced the keys.
func (s *State) loadBound() {
	roots, whole := s.olderRoots()
	s.ledger.roots = roots
	since := s.newestBound()
	if !whole {
		since = max(since, slices.Concat(roots, s.roots)[0].version)
	}
	s.ledger = s.ledger.underRoots(s.roots).underRoot(since)
	if s.ledger.since == 0 {
		return
	}
	name := boundName(s.ledger.since)
	for _, name := range []string{name, disk.CopyPath(name)} {
		raw, err := s.readFile(name, maxLedger)
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

// olderRoots returns the stored roots that lead to the first one of the chain. whole reports whether they reach back
// to the oldest stored root.
func (s *State) olderRoots() (older []*Root, whole bool) {
	stored, err := s.versions(RoleRoot)
	if err != nil {
		return nil, true // then the chain could not be read either
	}
	next := s.roots[0]
	for _, v := range slices.Backward(stored) {
		if v >= next.version {
			continue
		}
		root, err := load(s, RoleRoot, v, func(raw []byte) (*Root, error) {
			root, err := ParseRoot(raw)
			if err != nil {
				return nil, err
			}
			return root, root.checkNext(next)
		})
		if err != nil {
			return older, false
		}
		older, next = slices.Insert(older, 0, root), root
	}
	return older, true
}

// newestBound returns the newest root that has a stored file of bound names, see boundName; 0 for none.
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

// storeBound stores which names are bound for good. It is called after the ledger is stored: after a crash in
// between, a name that was bound anew has its new digest and is still rebindable.
func (s *State) storeBound(l *Ledger) error {
	if l.since == 0 {
		return nil
	}
	if err := s.put(boundName(l.since), l.bound(), false); err != nil {
		return err
	}
	if old := s.ledger.since; old != 0 && old != l.since {
		return s.cfg.FS.RemoveState(s.path(boundName(old)))
	}
	return nil
}

// loadLedger reads the ledger. A lost ledger is no error: the names of the list are learned again, and names come
// from signed lists alone.
func (s *State) loadLedger() error {
	path := s.path(LedgerName)
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

// grownLedger returns the ledger in the file if it has all names of s.ledger and more, else nil. It is called if file
// and copy differ and s.ledger is from the copy. Then an older program, which writes no copies, added to the file: a
// damaged disk adds no lines.
func (s *State) grownLedger() *Ledger {
	raw, err := s.readFile(LedgerName, maxLedger)
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

// storeLedger writes the ledger unless file and copy have it already.
func (s *State) storeLedger(l *Ledger) error {
	path := s.path(LedgerName)
	old, damage, err := disk.ReadState(path, maxLedger, nil)
	if _, noCopy := os.Lstat(disk.CopyPath(path)); err == nil && damage == nil && noCopy == nil && bytes.Equal(old, l.Bytes()) || l.Len() == 0 {
		return nil
	}
	return s.cfg.FS.WriteState(path, l.Bytes(), 0o644)
}

// learn adds the names of the newest list to the ledger in memory. That restores what can be restored of a ledger
// that was lost or is older than the list. The list was accepted under the ledger; if they differ, the disk damaged
// the ledger.
func (s *State) learn() {
	if s.trusted[RoleTargets] == nil {
		return
	}
	releases := s.trusted[RoleTargets].releases
	for _, r := range releases {
		if s.ledger.check(r.Name(), r.Digest()) != nil {
			had, _ := s.ledger.Digest(r.Name())
			s.damaged(fmt.Errorf("%s: %w: %v: expected digest %v, which the list has, got %v", s.path(LedgerName), disk.ErrDamaged, r.Name(), r.Digest(), had))
			break // one message for a damaged file is enough
		}
	}
	s.ledger = s.ledger.bind(releases)
}
