package dropdir

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/openpowerquality/box-update-server/internal/pace"
	"github.com/openpowerquality/box-update-server/update"
)

// maxGone bounds how many names are remembered that are not in the directory any more.
const maxGone = 20_000

// readAgain is the pauses after which a file that can't be read is tried again.
var readAgain = pace.Backoff{First: time.Minute, Most: time.Hour}

// state is what is known of the directory. It does no I/O and reads no clock; listings, results and
// times are given to it.
type state struct {
	product update.Product
	still   time.Duration
	check   bool // whether archives are checked

	entries map[update.Name]*entry
	had     bool              // whether there ever was an update
	odd     map[string]string // of the last listing
	notes   map[string]string // warnings about the server itself, by subject
	err     error             // of the last attempt to list, nil if it succeeded
	round   int               // number of the last listing

	signatures map[update.Name]signatureFile // of the last listing

	hashes, checks, slowChecks queue
	settle                     time.Time // when the next file may be still; zero: none waits

	changed  bool // the catalog is not that of this state
	resigned bool // nor are the signatures those that it was made with
	unsaved  bool // nor is the cache
	news     []item
}

// entry is what is known of one name.
type entry struct {
	present  bool
	listed   bool      // in the catalog
	seen     stamp     // of the last listing that showed it
	since    time.Time // when this size and modification time were first seen
	changing bool      // a look at this very file has shown others before
	round    int

	served   bool   // known is set
	known    record // of the bytes that the name stood for when it was last listed or hashed
	replaced bool

	busy     bool  // being hashed or checked
	checked  bool  // checked without a result, which is not tried again
	slow     bool  // its check takes long, and is done beside those of other archives
	failed   error // why it can't be read
	failures int
	retry    time.Time
}

// record is what was learned of the bytes behind one stamp.
type record struct {
	stamp    stamp
	digest   update.Digest // zero: not hashed
	blocks   update.Blocks
	checked  bool
	problems []string
}

func newState(c Config) *state {
	return &state{
		product: c.Product, still: c.Still, check: c.Check != nil,
		entries: make(map[update.Name]*entry), notes: make(map[string]string), changed: true,
	}
}

// readable reports whether bytes of this stamp were opened before and nothing speaks against them.
func (s *state) readable(n update.Name, t stamp) bool {
	e := s.entries[n]
	if e == nil || e.failed != nil {
		return e != nil && e.present && e.seen == t // failed: hashing tries again
	}
	return e.known.stamp == t && (e.listed || !e.known.digest.IsZero())
}

// unknown reports whether the digest of a listed file has still to be computed.
func (s *state) unknown(e *entry) bool {
	return e.listed && (e.known.stamp != e.seen || e.known.digest.IsZero())
}

// listed takes over the outcome of an attempt to list.
func (s *state) listed(err error) {
	switch {
	case err != nil && (s.err == nil || s.err.Error() != err.Error()):
		s.say(slog.LevelError, "updates directory can't be listed", "err", err)
	case err == nil && s.err != nil:
		s.say(slog.LevelInfo, "updates directory can be listed again")
	}
	s.err = err
}

// observe takes over a listing made at the time now.
func (s *state) observe(l listing, now time.Time) {
	s.round++
	s.settle = time.Time{}
	for base, text := range l.odd {
		if s.odd[base] != text {
			s.say(slog.LevelWarn, "file in the updates directory "+text, "file", base)
		}
	}
	s.odd = l.odd
	s.sign(l.signatures)
	for _, f := range l.files {
		s.see(f, now)
	}
	for n, e := range s.entries {
		if e.present && e.round != s.round {
			s.gone(n, e)
		}
	}
	s.prune()
	s.refill(now)
}

func (s *state) see(f sighting, now time.Time) {
	e := s.entries[f.name]
	if e == nil {
		e = &entry{}
		s.entries[f.name] = e
	}
	switch {
	case !e.present:
		e.present, e.since, e.changing = true, now, false
	case !e.seen.still(f.stamp):
		e.since, e.changing = now, e.seen.inode == f.stamp.inode
	}
	drifted := e.seen != f.stamp
	if drifted {
		s.forget(f.name, e, e.seen.rewritten(f.stamp))
		e.failed, e.failures, e.checked = nil, 0, false
		s.changed = s.changed || e.listed // the digest in the catalog is not known to be that of what is there now
	}
	counts := e.listed && e.seen.still(f.stamp)
	e.seen, e.round = f.stamp, s.round
	switch wait := s.wait(e, now); {
	case f.stamp.size == 0:
		s.hide(f.name, e) // whatever fills it changes it
	case wait > 0 && !counts:
		s.hide(f.name, e)
		if at := now.Add(wait); s.settle.IsZero() || at.Before(s.settle) {
			s.settle = at
		}
	case f.err != nil:
		s.fail(f.name, e, f.err, now)
	case e.failed == nil && !e.listed:
		s.show(f.name, e)
	case drifted:
		s.say(slog.LevelInfo, "update changed in the updates directory, hashed again", "name", f.name)
		s.succeed(f.name, e)
	}
}

// forget prepares for losing sight of the bytes that a name stands for. Where they are in the catalog
// and were not learned, nothing can be compared with them later.
func (s *state) forget(n update.Name, e *entry, rewritten bool) {
	if e.listed && e.served && !e.replaced && rewritten && e.known.stamp.rewritten(e.seen) {
		s.replace(n, e, "not known", "not known")
	}
}

// wait returns how long a file has still to be still before it counts, 0 or less if it counts now.
func (s *state) wait(e *entry, now time.Time) time.Duration {
	wait := s.still - now.Sub(e.since)
	if age := now.Sub(e.seen.modified()); !e.changing && age >= 0 {
		wait = min(wait, s.still-age)
	}
	return wait
}

func (s *state) hide(n update.Name, e *entry) {
	if e.listed {
		e.listed, s.changed = false, true
		s.say(slog.LevelInfo, "update left out until it is still", "name", n)
	}
}

// show lists a file that counts.
func (s *state) show(n update.Name, e *entry) {
	if s.round > 1 {
		s.say(slog.LevelInfo, "update listed", "name", n, "bytes", e.seen.size)
	}
	e.listed, s.changed, s.had = true, true, true
	s.succeed(n, e)
}

// succeed settles which bytes a listed name stands for, as far as that is known before they are hashed.
func (s *state) succeed(n update.Name, e *entry) {
	switch {
	case e.served && e.known.stamp == e.seen:
		return
	case e.served && !e.known.digest.IsZero():
		return // hashing will tell whether these are the same bytes
	case e.served && e.known.stamp.rewritten(e.seen):
		s.replace(n, e, "not known", "not known yet")
	}
	e.served, e.known, s.unsaved = true, record{stamp: e.seen}, true
}

func (s *state) replace(n update.Name, e *entry, old, new string) {
	e.replaced, s.unsaved = true, true
	s.say(slog.LevelWarn, "update was replaced under the same name: clients that resume a download start again",
		"name", n, "old", old, "new", new)
}

func (s *state) gone(n update.Name, e *entry) {
	s.forget(n, e, true)
	if e.listed {
		e.listed, s.changed = false, true
		if s.err == nil {
			s.say(slog.LevelInfo, "update gone from the updates directory", "name", n)
		}
	}
	e.present, e.failed, e.failures = false, nil, 0
	if !e.served {
		delete(s.entries, n)
	}
}

// prune forgets the lowest of too many names that are gone.
func (s *state) prune() {
	if len(s.entries) <= maxGone {
		return
	}
	var gone []update.Name
	for n, e := range s.entries {
		if !e.present && !e.busy {
			gone = append(gone, n)
		}
	}
	if len(gone) <= maxGone {
		return
	}
	slices.SortFunc(gone, byVersion)
	for _, n := range gone[:len(gone)-maxGone] {
		delete(s.entries, n)
	}
}

// fail leaves out a file that can't be read.
func (s *state) fail(n update.Name, e *entry, err error, now time.Time) {
	if e.failed == nil || e.failed.Error() != err.Error() {
		s.say(slog.LevelWarn, "update left out, can't be read", "name", n, "err", err)
	}
	if e.listed {
		e.listed, s.changed = false, true
	}
	e.failed = err
	e.failures++
	e.retry = now.Add(readAgain.Pause(e.failures))
}

// note sets a warning about the server itself, or clears it where err is nil, and logs what is new.
func (s *state) note(subject string, err error) {
	text := ""
	if err != nil {
		text = fmt.Sprintf("%s: %v", subject, err)
	}
	if s.notes[subject] == text {
		return
	}
	if err == nil {
		delete(s.notes, subject)
		return
	}
	s.notes[subject] = text
	s.say(slog.LevelWarn, subject, "err", err)
}

// restore takes over what a cache remembers. It comes before the first listing.
func (s *state) restore(entries map[update.Name]*entry) {
	s.entries = maps.Clone(entries)
	for n := range entries {
		s.had = s.had || n.Product() == s.product
	}
}
