package dropdir

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/pace"
	"github.com/openpowerquality/box-update-server/update"
)

// maxGone bounds how many names are remembered that are no longer in the directory.
const maxGone = 20_000

// readAgain gives the pauses after which a file that can't be read is tried again.
var readAgain = pace.Backoff{First: time.Minute, Most: time.Hour}

// state is what is known of the directory. It does no I/O and reads no clock: its methods are given listings, results
// and times.
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

	hashes   []update.Name               // to be hashed, the next one last; some may need no hashing any more
	checks   map[pace.Lane][]update.Name // the same for checks
	reading  map[update.Name]bool        // being hashed or checked
	stillAt  time.Time                   // when the next file may be still for long enough; zero: none waits
	changed  bool                        // the catalog is out of date
	resigned bool                        // so are the signatures that it was made with
	unsaved  bool                        // the cache is out of date
	news     []item
}

// A fileState is the state of the file of a name. The first line that applies counts:
//
//	a listing shows                                           from             to
//	no file                                                   any              absent
//	one that is empty, or not still for long enough,          any              changing if the same inode has another
//	  unless it is listed and only its change time differs                     size or modification time, else waiting
//	one that can't be opened                                  any              failed
//	exactly the same as before                                failed           failed
//	another one                                               any              listed
//
//	reading a file that is the same before and after          from             to
//	fails                                                     any but absent   failed
//	succeeds                                                  failed           listed
type fileState uint8

const (
	absent   fileState = iota
	waiting            // it must be still for a while, or old by its modification time
	changing           // it was seen to change: its modification time alone is not trusted
	listed             // in the catalog
	failed             // left out because it can't be read; hashing tries again
)

// entry is what is known of one name.
type entry struct {
	state fileState
	seen  disk.Stamp // of the last listing that showed it
	since time.Time  // when this size and modification time were first seen
	round int        // of that listing

	known    record    // the bytes that the name stood for when it was last listed or hashed
	replaced bool      // the name stood for other bytes before, or may have
	lane     pace.Lane // in which it waits for its check

	err      error // why it can't be read; only if failed
	failures int   // in a row
	retry    time.Time
}

// record is what was learned of the bytes with one stamp.
type record struct {
	stamp    disk.Stamp    // zero: the name never stood for any bytes
	digest   update.Digest // zero: not hashed
	blocks   update.Blocks
	checked  bool
	problems []string
}

func (e *entry) everListed() bool { return e.known.stamp != disk.Stamp{} }

// isKnown reports whether the digest is that of the file as it was seen last.
func (e *entry) isKnown() bool { return e.known.stamp == e.seen && !e.known.digest.IsZero() }

// rewritten reports whether the stamps differ in more than the change time, which is all that chmod and a new hard
// link change.
func rewritten(s, t disk.Stamp) bool { return !s.SameFile(t) || !s.SameBytes(t) }

func newState(c Config) *state {
	return &state{
		product: c.Product, still: c.Still, check: c.Check != nil, changed: true,
		entries: map[update.Name]*entry{}, notes: map[string]string{},
		checks: map[pace.Lane][]update.Name{}, reading: map[update.Name]bool{},
	}
}

// readable reports whether a file with this stamp was opened before and may be assumed to be readable still.
func (s *state) readable(n update.Name, t disk.Stamp) bool {
	switch e := s.entries[n]; {
	case e == nil:
		return false
	case e.state == failed:
		return e.seen == t // hashing tries again
	default:
		return e.known.stamp == t && (e.state == listed || !e.known.digest.IsZero())
	}
}

// takeListError records whether listing the directory failed; nil means that it did not.
func (s *state) takeListError(err error) {
	switch {
	case err != nil && (s.err == nil || s.err.Error() != err.Error()):
		s.say(slog.LevelError, "updates directory can't be listed", "err", err)
	case err == nil && s.err != nil:
		s.say(slog.LevelInfo, "updates directory can be listed again")
	}
	s.err = err
}

// observe applies a listing made at the time now.
func (s *state) observe(l listing, now time.Time) {
	s.round++
	s.stillAt = time.Time{}
	for base, text := range l.odd {
		if s.odd[base] != text {
			s.say(slog.LevelWarn, "file in the updates directory "+text, "file", base)
		}
	}
	s.odd = l.odd
	if !maps.EqualFunc(s.signatures, l.signatures, func(a, b signatureFile) bool { return a.sig == b.sig }) {
		s.changed, s.resigned = true, true
	}
	s.signatures = l.signatures
	for _, f := range l.files {
		s.observeFile(f, now)
	}
	for n, e := range s.entries {
		if e.state != absent && e.round != s.round {
			s.dropFile(n, e)
		}
	}
	s.prune()
	s.queueWork(now)
}

// observeFile applies one file of a listing.
func (s *state) observeFile(f sighting, now time.Time) {
	e := s.entries[f.name]
	if e == nil {
		e = &entry{}
		s.entries[f.name] = e
	}
	was, before := e.state, e.seen
	drifted := before != f.stamp
	counts := was == listed && before.SameBytes(f.stamp) // whatever its change time says
	switch {
	case was == absent:
		e.state, e.since = waiting, now
	case !before.SameBytes(f.stamp) && before.SameFile(f.stamp):
		e.state, e.since = changing, now
	case !before.SameBytes(f.stamp):
		e.state, e.since = waiting, now // another file was renamed to this name
	case drifted && was == failed:
		e.state = waiting
	}
	if drifted {
		s.loseBytes(f.name, e, was == listed && rewritten(before, f.stamp))
		e.err, e.failures, e.lane = nil, 0, pace.QuickLane
		s.changed = s.changed || was == listed // the digest in the catalog may not be that of the file now
	}
	e.seen, e.round = f.stamp, s.round
	wait := s.wait(e, now)
	if f.stamp.Size > 0 && wait > 0 && !counts {
		if at := now.Add(wait); s.stillAt.IsZero() || at.Before(s.stillAt) {
			s.stillAt = at
		}
	}
	switch {
	case f.stamp.Size == 0 || wait > 0 && !counts: // an empty file changes when it is filled
		if was == listed {
			s.changed = true
			s.say(slog.LevelInfo, "update left out until it is still", "name", f.name)
		}
	case f.err != nil:
		s.fail(f.name, e, f.err, now)
	case e.state == failed:
	case was != listed:
		s.listFile(f.name, e)
	case drifted:
		e.state = listed
		s.say(slog.LevelInfo, "update changed in the updates directory, hashed again", "name", f.name)
		s.recordBytes(f.name, e)
	}
}

// wait returns how long a file must still stay unchanged before it counts, 0 or less if it counts now.
func (s *state) wait(e *entry, now time.Time) time.Duration {
	wait := s.still - now.Sub(e.since)
	if age := now.Sub(e.seen.ModTime()); e.state != changing && age >= 0 {
		wait = min(wait, s.still-age)
	}
	return wait
}

// loseBytes is called when the bytes of a name change or go. If clients saw bytes that were never hashed, the name
// counts as replaced: nothing can be compared with them later.
func (s *state) loseBytes(n update.Name, e *entry, shown bool) {
	if shown && e.everListed() && !e.replaced && rewritten(e.known.stamp, e.seen) {
		s.markReplaced(n, e, "not known", "not known")
	}
}

// listFile lists a file that counts.
func (s *state) listFile(n update.Name, e *entry) {
	if s.round > 1 {
		s.say(slog.LevelInfo, "update listed", "name", n, "bytes", e.seen.Size)
	}
	e.state, s.changed, s.had = listed, true, true
	s.recordBytes(n, e)
}

// recordBytes records which bytes a listed name stands for, as far as that is known before they are hashed.
func (s *state) recordBytes(n update.Name, e *entry) {
	if e.known.stamp == e.seen || !e.known.digest.IsZero() {
		return // hashing will show whether the bytes are the same
	}
	if e.everListed() && rewritten(e.known.stamp, e.seen) {
		s.markReplaced(n, e, "not known", "not known yet")
	}
	e.known, s.unsaved = record{stamp: e.seen}, true
}

func (s *state) markReplaced(n update.Name, e *entry, old, new string) {
	e.replaced, s.unsaved = true, true
	s.say(slog.LevelWarn, "update was replaced under the same name: clients that resume a download start again",
		"name", n, "old", old, "new", new)
}

func (s *state) dropFile(n update.Name, e *entry) {
	s.loseBytes(n, e, e.state == listed)
	if e.state == listed {
		s.changed = true
		if s.err == nil {
			s.say(slog.LevelInfo, "update gone from the updates directory", "name", n)
		}
	}
	e.state, e.err, e.failures = absent, nil, 0
	if !e.everListed() {
		delete(s.entries, n)
	}
}

// prune forgets names that are gone, lowest versions first, until at most maxGone are left.
func (s *state) prune() {
	if len(s.entries) <= maxGone {
		return
	}
	var gone []update.Name
	for n, e := range s.entries {
		if e.state == absent && !s.reading[n] {
			gone = append(gone, n)
		}
	}
	if len(gone) <= maxGone {
		return
	}
	slices.SortFunc(gone, update.Name.CompareByVersion)
	for _, n := range gone[:len(gone)-maxGone] {
		delete(s.entries, n)
	}
}

// fail leaves a file that can't be read out of the catalog.
func (s *state) fail(n update.Name, e *entry, err error, now time.Time) {
	if e.state != failed || e.err.Error() != err.Error() {
		s.say(slog.LevelWarn, "update left out, can't be read", "name", n, "err", err)
	}
	s.changed = s.changed || e.state == listed
	e.state, e.err = failed, err
	e.failures++
	e.retry = now.Add(readAgain.Pause(e.failures))
}

// note sets a warning about the server itself, or clears it if err is nil, and logs a new one.
func (s *state) note(subject string, err error) {
	if err == nil {
		delete(s.notes, subject)
		return
	}
	text := fmt.Sprintf("%s: %v", subject, err)
	if s.notes[subject] != text {
		s.notes[subject] = text
		s.say(slog.LevelWarn, subject, "err", err)
	}
}

// restore takes the entries from a cache. It is called before the first listing.
func (s *state) restore(entries map[update.Name]*entry) {
	s.entries = maps.Clone(entries)
	for n := range entries {
		s.had = s.had || n.Product() == s.product
	}
}

// catalog returns the catalog of this state.
func (s *state) catalog() (*update.Catalog, error) {
	updates := make([]update.Update, 0, len(s.entries))
	for n, e := range s.entries {
		if e.state == listed {
			u := update.Update{Name: n, Length: e.seen.Size, Time: e.seen.ModTime()}
			if e.known.stamp == e.seen {
				u.Digest = e.known.digest
			}
			updates = append(updates, u)
		}
	}
	return update.NewCatalog(updates, s.had)
}

// task is one file to be read, as it was when the task was made.
type task struct {
	name  update.Name
	stamp disk.Stamp
	lane  pace.Lane // of a check
}

// queueWork fills the queues anew.
func (s *state) queueWork(now time.Time) {
	s.hashes = s.hashes[:0]
	clear(s.checks)
	for n, e := range s.entries {
		switch {
		case s.wantsHash(n, e, now):
			s.hashes = append(s.hashes, n)
		case s.wantsCheck(n, e):
			s.checks[e.lane] = append(s.checks[e.lane], n)
		}
	}
	slices.SortFunc(s.hashes, update.Name.CompareByVersion)
	for _, names := range s.checks {
		slices.SortFunc(names, update.Name.CompareByVersion)
	}
}

func (s *state) wantsHash(n update.Name, e *entry, now time.Time) bool {
	return !s.reading[n] && (e.state == listed && !e.isKnown() || e.state == failed && !now.Before(e.retry))
}

func (s *state) wantsCheck(n update.Name, e *entry) bool {
	return s.check && e.state == listed && !s.reading[n] && e.isKnown() && !e.known.checked && e.lane != pace.NoLane
}

// nextHash returns a task for the file with the highest version that must be hashed.
func (s *state) nextHash(now time.Time) (task, bool) {
	return s.next(&s.hashes, func(n update.Name, e *entry) bool { return s.wantsHash(n, e, now) })
}

// nextCheck returns a task for the file with the highest version that waits for a check in a lane.
func (s *state) nextCheck(lane pace.Lane) (task, bool) {
	queue := s.checks[lane]
	t, ok := s.next(&queue, func(n update.Name, e *entry) bool { return e.lane == lane && s.wantsCheck(n, e) })
	s.checks[lane] = queue
	return t, ok
}

func (s *state) next(queue *[]update.Name, wanted func(update.Name, *entry) bool) (task, bool) {
	for len(*queue) > 0 {
		last := len(*queue) - 1
		n := (*queue)[last]
		*queue = (*queue)[:last]
		if e := s.entries[n]; e != nil && wanted(n, e) {
			s.reading[n] = true
			return task{n, e.seen, e.lane}, true
		}
	}
	return task{}, false
}

// finish ends a task and returns its entry. ok is false if the entry no longer stands for the bytes that were read;
// then the next listing makes a new task.
func (s *state) finish(t task) (e *entry, ok bool) {
	delete(s.reading, t.name)
	e = s.entries[t.name]
	return e, e != nil && e.state != absent && e.seen == t.stamp
}

// hashed applies the digest and block list of a file, or the error that says why it can't be read.
func (s *state) hashed(t task, digest update.Digest, blocks update.Blocks, err error, now time.Time) {
	e, ok := s.finish(t)
	if !ok {
		return
	}
	if err != nil {
		s.fail(t.name, e, err, now)
		return
	}
	old := e.known
	if !old.digest.IsZero() && old.digest != digest {
		s.markReplaced(t.name, e, old.digest.String(), digest.String())
	}
	e.known = record{stamp: t.stamp, digest: digest, blocks: blocks}
	if old.digest == digest {
		e.known.checked, e.known.problems = old.checked, old.problems
	}
	s.changed, s.unsaved = true, true
	if e.state == failed {
		e.err, e.failures = nil, 0
		s.listFile(t.name, e)
	}
	if e.lane = pace.QuickLane; s.wantsCheck(t.name, e) {
		s.checks[pace.QuickLane] = append(s.checks[pace.QuickLane], t.name)
	}
}

// inspected applies what a check found improper, or the error that says why that is not known.
func (s *state) inspected(t task, problems []string, err error) {
	e, ok := s.finish(t)
	if !ok {
		return
	}
	if err != nil {
		e.lane = t.lane.After(err)
		if e.lane == pace.NoLane {
			s.say(slog.LevelWarn, "update could not be checked", "name", t.name, "err", err)
			return
		}
		s.checks[e.lane] = append(s.checks[e.lane], t.name)
		s.say(slog.LevelInfo, "archive takes long to check, others go first", "name", t.name)
		return
	}
	e.known.checked, e.known.problems, s.unsaved = true, clipAll(problems), true
	if len(problems) > 0 {
		s.say(slog.LevelWarn, "archive is not a proper update; it is served all the same", "name", t.name, "problems", strings.Join(e.known.problems, "; "))
	}
}
