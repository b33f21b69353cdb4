package dropdir

import (
	"cmp"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/update"
)

// queue holds names, the one whose turn is next last. It may hold names that have nothing to do any more.
type queue []update.Name

func (q *queue) pop() (n update.Name, ok bool) {
	if len(*q) == 0 {
		return update.Name{}, false
	}
	last := len(*q) - 1
	n = (*q)[last]
	*q = (*q)[:last]
	return n, true
}

func byVersion(a, b update.Name) int {
	return cmp.Or(a.Version().Compare(b.Version()), a.Compare(b))
}

// refill makes both queues anew.
func (s *state) refill(now time.Time) {
	s.hashes, s.checks, s.slowChecks = s.hashes[:0], s.checks[:0], s.slowChecks[:0]
	for n, e := range s.entries {
		switch {
		case s.wantsHash(e, now):
			s.hashes = append(s.hashes, n)
		case s.wantsCheck(e):
			q := s.checksOf(e.slow)
			*q = append(*q, n)
		}
	}
	slices.SortFunc(s.hashes, byVersion)
	slices.SortFunc(s.checks, byVersion)
	slices.SortFunc(s.slowChecks, byVersion)
}

func (s *state) wantsHash(e *entry, now time.Time) bool {
	if e.busy || !e.present {
		return false
	}
	if e.failed != nil {
		return !now.Before(e.retry)
	}
	return s.unknown(e)
}

func (s *state) wantsCheck(e *entry) bool {
	return s.check && e.listed && !e.busy && !s.unknown(e) && !e.known.checked && !e.checked
}

// task is one file to be read, as it was when the task was given out.
type task struct {
	name  update.Name
	stamp stamp
	slow  bool // a check that may take as long as it likes
}

// nextHash gives out the file with the highest version that has to be hashed.
func (s *state) nextHash(now time.Time) (task, bool) {
	for {
		n, ok := s.hashes.pop()
		if !ok {
			return task{}, false
		}
		if e := s.entries[n]; e != nil && s.wantsHash(e, now) {
			e.busy = true
			return task{name: n, stamp: e.seen}, true
		}
	}
}

// checksOf returns the queue of those checks that take long, or of those of which that is not known.
func (s *state) checksOf(slow bool) *queue {
	if slow {
		return &s.slowChecks
	}
	return &s.checks
}

// nextCheck gives out the file with the highest version that has to be checked, of those whose checks take
// long, or of the others.
func (s *state) nextCheck(slow bool) (task, bool) {
	q := s.checksOf(slow)
	for {
		n, ok := q.pop()
		if !ok {
			return task{}, false
		}
		if e := s.entries[n]; e != nil && e.slow == slow && s.wantsCheck(e) {
			e.busy = true
			return task{n, e.seen, slow}, true
		}
	}
}

// slowed puts a check off that took long, to be done beside the others.
func (s *state) slowed(t task) {
	e, ok := s.finish(t)
	if !ok {
		return
	}
	e.slow = true
	s.slowChecks = append(s.slowChecks, t.name)
	s.say(slog.LevelInfo, "archive takes long to check, others go first", "name", t.name)
}

// finish ends a task and returns its entry; ok is false where that does not hold the bytes any more
// that were read. Then the next listing makes a new task.
func (s *state) finish(t task) (e *entry, ok bool) {
	e = s.entries[t.name]
	if e == nil {
		return nil, false
	}
	e.busy = false
	return e, e.present && e.seen == t.stamp
}

// hashed takes over digest and block list of a file, or why it can't be read.
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
	if e.served && !old.digest.IsZero() && old.digest != digest {
		s.replace(t.name, e, old.digest.String(), digest.String())
	}
	e.served, e.known = true, record{stamp: t.stamp, digest: digest, blocks: blocks}
	if old.digest == digest {
		e.known.checked, e.known.problems = old.checked, old.problems
	}
	s.changed, s.unsaved = true, true
	if e.failed != nil {
		e.failed, e.failures = nil, 0
		s.show(t.name, e)
	}
	if e.slow = false; s.wantsCheck(e) {
		s.checks = append(s.checks, t.name)
	}
}

// inspected takes over what is improper about an archive, or why that is not known.
func (s *state) inspected(t task, problems []string, err error) {
	e, ok := s.finish(t)
	if !ok {
		return
	}
	if err != nil {
		e.checked = true
		s.say(slog.LevelWarn, "update could not be checked", "name", t.name, "err", err)
		return
	}
	e.known.checked, e.known.problems, s.unsaved = true, bound(problems), true
	if len(problems) > 0 {
		s.say(slog.LevelWarn, "archive is not a proper update; it is served all the same", "name", t.name, "problems", strings.Join(e.known.problems, "; "))
	}
}

// bound bounds the number and length of the problems of one archive.
func bound(problems []string) []string {
	out := make([]string, 0, min(len(problems), maxProblems))
	for _, p := range problems[:min(len(problems), maxProblems)] {
		out = append(out, clip(p))
	}
	return out
}
