package trust

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/openpowerquality/box-update-server/internal/durable"
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
	since := replacedAt(chain)
	if since <= l.since {
		return l
	}
	out := &Ledger{digests: l.digests, since: since, loose: make(map[update.Name]bool, len(l.digests))}
	for n := range l.digests {
		out.loose[n] = true
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
	out := Ledger{digests: make(map[update.Name]update.Digest, len(l.digests)-len(l.loose))}
	for n, d := range l.digests {
		if !l.loose[n] {
			out.digests[n] = d
		}
	}
	return out.Bytes()
}

// loadBound reads which names of the ledger are bound for good, from the file and its copy: each line that the ledger has too
// counts. A file that is missing, since a crash came before it, or can't be read binds none: what is listed now is
// learned again.
func (s *State) loadBound() {
	s.ledger = s.ledger.under(s.roots)
	if s.ledger.since == 0 {
		return
	}
	path := filepath.Join(s.cfg.Dir, boundName(s.ledger.since))
	for _, p := range []string{path, durable.CopyPath(path)} {
		raw, err := readFile(p, maxLedger)
		if err != nil && !errors.Is(err, ErrNotFound) {
			s.damaged(err)
		}
		for line := range bytes.Lines(raw) {
			if d, n, err := update.ParseChecksumLine(line); err == nil && s.ledger.digests[n] == d {
				delete(s.ledger.loose, n)
			}
		}
	}
}

// storeBound stores which names are bound for good. It comes after the ledger: after a crash in between a name that is bound
// anew is loose and has its new digest.
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
