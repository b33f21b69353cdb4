package trust

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"github.com/openpowerquality/box-update-server/update"
)

// LedgerName is the file in a state directory that holds the ledger.
const LedgerName = "ledger"

// maxLedger bounds the ledger in bytes: some 150,000 names.
const maxLedger = 16 << 20

// Ledger remembers the digest of every name that was ever accepted, withdrawn names included, so that
// no name gets a second one; unless the release keys were replaced since, see Rebound. It is immutable. The zero Ledger remembers nothing.
//
// Its file is a list of checksum lines, ascending by name: sha256sum -c reads it.
type Ledger struct {
	digests map[update.Name]update.Digest

	roots []*Root // those stored that lead to the pinned one, from which chains begin; see loadBound
	since int64   // the newest root that replaced the release keys, 0: none
	// learned before that root and not since: each of these names may be bound to another digest, once
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

// Len returns how many names the ledger remembers.
func (l *Ledger) Len() int { return len(l.digests) }

// check refuses a name that had another digest, unless it is rebindable.
func (l *Ledger) check(n update.Name, d update.Digest) error {
	if had, ok := l.digests[n]; ok && had != d && !l.rebindable[n] {
		return fmt.Errorf("%v: %w: it had %v and is offered with %v; build the update again under a new version", n, ErrSecondDigest, had, d)
	}
	return nil
}

// rebound returns a ledger that has the releases, whatever digests their names had, and binds their names for good; l itself
// where it does already.
func (l *Ledger) rebound(releases []Release) *Ledger {
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

// with returns a ledger that remembers the releases too, l itself where it does already.
func (l *Ledger) with(releases []Release) (*Ledger, error) {
	for _, r := range releases {
		if err := l.check(r.Name(), r.Digest()); err != nil {
			return nil, err
		}
	}
	return l.rebound(releases), nil
}
