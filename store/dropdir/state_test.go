package dropdir

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/pace"
	"github.com/openpowerquality/box-update-server/update"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func mustName(tb testing.TB, s string) update.Name {
	tb.Helper()
	n, err := update.ParseName(s)
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

// at returns the stamp of a file that was modified at a time.
func at(modified time.Time, size int64) disk.Stamp {
	return disk.Stamp{Inode: 1, Size: size, Modified: modified.UnixNano(), Changed: modified.UnixNano()}
}

func fresh(tb testing.TB, c Config) *state {
	tb.Helper()
	c, err := c.withDefaults()
	if err != nil {
		tb.Fatal(err)
	}
	return newState(c)
}

// look shows one file, or none for a zero stamp, and reports whether it is listed then.
func look(s *state, n update.Name, t disk.Stamp, after time.Duration) bool {
	var l listing
	if t != (disk.Stamp{}) {
		l.files = []sighting{{name: n, stamp: t}}
	}
	s.observe(l, start.Add(after))
	return s.entries[n] != nil && s.entries[n].state == listed
}

func TestStill(t *testing.T) {
	type glance struct {
		after  time.Duration
		stamp  disk.Stamp
		listed bool
	}
	past, future := start.Add(-time.Hour), start.Add(time.Hour)
	moved := at(past, 5)
	moved.Inode = 2
	tests := map[string][]glance{
		"old file counts at once":           {{0, at(past, 5), true}},
		"exactly as old as needed":          {{0, at(start.Add(-2*time.Second), 5), true}},
		"a moment too young":                {{0, at(start.Add(-2*time.Second+1), 5), false}, {1, at(start.Add(-2*time.Second+1), 5), true}},
		"new file counts when it is old":    {{0, at(start, 5), false}, {time.Second, at(start, 5), false}, {2 * time.Second, at(start, 5), true}},
		"future: two looks decide":          {{0, at(future, 5), false}, {1999 * time.Millisecond, at(future, 5), false}, {2 * time.Second, at(future, 5), true}},
		"future and growing":                {{0, at(future, 5), false}, {2 * time.Second, at(future, 6), false}, {4 * time.Second, at(future, 6), true}},
		"grows with an old time":            {{0, at(past, 5), true}, {time.Second, at(past, 6), false}, {2 * time.Second, at(past, 6), false}, {3 * time.Second, at(past, 6), true}},
		"appended to while listed":          {{0, at(past, 5), true}, {time.Second, at(start.Add(time.Second), 6), false}, {3 * time.Second, at(start.Add(time.Second), 6), true}},
		"renamed over with an old time":     {{0, at(past, 5), true}, {time.Second, moved, true}},
		"gone and back":                     {{0, at(past, 5), true}, {time.Second, disk.Stamp{}, false}, {2 * time.Second, at(past, 5), true}},
		"listed stays when the clock jumps": {{0, at(past, 5), true}, {-2 * time.Hour, at(past, 5), true}},
	}
	n := mustName(t, "opq-box-update-7.tar.bz2")
	for name, glances := range tests {
		t.Run(name, func(t *testing.T) {
			s := fresh(t, Config{})
			for i, g := range glances {
				if got := look(s, n, g.stamp, g.after); got != g.listed {
					t.Fatalf("look %d: listed %v, want %v", i, got, g.listed)
				}
			}
		})
	}
}

func TestSettle(t *testing.T) {
	n := mustName(t, "opq-box-update-7.tar.bz2")
	s := fresh(t, Config{})
	look(s, n, at(start.Add(-500*time.Millisecond), 5), 0)
	if want := start.Add(1500 * time.Millisecond); !s.stillAt.Equal(want) {
		t.Errorf("still at %v, want %v", s.stillAt, want)
	}
	look(s, n, at(start.Add(time.Hour), 5), time.Second)
	if want := start.Add(3 * time.Second); !s.stillAt.Equal(want) {
		t.Errorf("future: still at %v, want %v", s.stillAt, want)
	}
	if look(s, n, at(start.Add(time.Hour), 5), 3*time.Second); !s.stillAt.IsZero() {
		t.Errorf("still: still at %v, want never", s.stillAt)
	}
}

// hashAll gives every waiting file the digest that digestOf says.
func hashAll(s *state, after time.Duration, digestOf func(task) update.Digest) {
	for {
		task, ok := s.nextHash(start.Add(after))
		if !ok {
			return
		}
		s.hashed(task, digestOf(task), update.Blocks{}, nil, start.Add(after))
	}
}

func constant(text string) func(task) update.Digest {
	return func(task) update.Digest { return update.Sum([]byte(text)) }
}

func TestUnreadableFileIsLeftOutAndTriedAgain(t *testing.T) {
	n := mustName(t, "opq-box-update-7.tar.bz2")
	s := fresh(t, Config{})
	st := at(start.Add(-time.Hour), 5)
	broken := errors.New("input/output error")
	look(s, n, st, 0)
	now := start
	for i, wait := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		task, ok := s.nextHash(now)
		if !ok {
			t.Fatalf("try %d: nothing to hash", i)
		}
		s.hashed(task, update.Digest{}, nil, broken, now)
		retry := now.Add(wait * time.Minute)
		s.observe(listing{files: []sighting{{name: n, stamp: st}}}, retry.Add(-1))
		if _, ok := s.nextHash(retry.Add(-1)); ok {
			t.Fatalf("try %d: again before %v", i, wait*time.Minute)
		}
		if c, _ := s.catalog(); len(c.Updates()) != 0 || !c.HadUpdates() {
			t.Fatalf("try %d: still in the catalog", i)
		}
		if w := s.health().Warnings; len(w) != 1 || !strings.Contains(w[0], "input/output error") {
			t.Fatalf("try %d: warnings %q", i, w)
		}
		s.observe(listing{files: []sighting{{name: n, stamp: st}}}, retry)
		now = retry
	}
	task, _ := s.nextHash(now)
	s.hashed(task, update.Sum(nil), update.Blocks{}, nil, now)
	if c, _ := s.catalog(); len(c.Updates()) != 1 {
		t.Error("not in the catalog after it was read")
	}
	if w := s.health().Warnings; len(w) != 0 {
		t.Errorf("warnings %q", w)
	}
	failures := 0
	for _, item := range s.news {
		if strings.Contains(item.message, "can't be read") {
			failures++
		}
	}
	if failures != 1 {
		t.Errorf("%d log lines for one failure", failures)
	}
}

func TestUnopenableFileIsNeverListed(t *testing.T) {
	n := mustName(t, "opq-box-update-7.tar.bz2")
	s := fresh(t, Config{})
	st := at(start.Add(-time.Hour), 5)
	denied := errors.New("permission denied")
	s.observe(listing{files: []sighting{{name: n, stamp: st, err: denied}}}, start)
	if c, _ := s.catalog(); len(c.Updates()) != 0 || c.HadUpdates() {
		t.Error("listed")
	}
	st.Changed++ // chmod
	if !look(s, n, st, time.Second) {
		t.Error("not listed once it can be opened")
	}
}

func TestNewestIsHashedFirstAndChecksComeLast(t *testing.T) {
	s := fresh(t, Config{})
	s.check = true
	var l listing
	for _, v := range []string{"9", "100", "20"} {
		l.files = append(l.files, sighting{name: mustName(t, "opq-box-update-"+v+".tar.bz2"), stamp: at(start.Add(-time.Hour), 1)})
	}
	s.observe(l, start)
	var order []string
	hashAll(s, 0, func(t task) update.Digest {
		order = append(order, t.name.Version().String())
		return update.Sum([]byte(t.name.String()))
	})
	if got := strings.Join(order, " "); got != "100 20 9" {
		t.Errorf("hashed in the order %s", got)
	}
	checked := 0
	for task, ok := s.nextCheck(pace.QuickLane); ok; task, ok = s.nextCheck(pace.QuickLane) {
		checked++
		s.inspected(task, []string{"no install_update.sh"}, nil)
	}
	if w := s.health().Warnings; checked != 3 || len(w) != 3 || !strings.Contains(w[0], "no install_update.sh") {
		t.Errorf("%d checked, warnings %q", checked, w)
	}
	s.observe(l, start.Add(time.Second))
	if task, ok := s.nextCheck(pace.QuickLane); ok {
		t.Errorf("%v is checked twice", task.name)
	}
}

func TestHealthIsBounded(t *testing.T) {
	s := fresh(t, Config{})
	l := listing{odd: make(map[string]string)}
	for i := range 1000 {
		l.odd[quote(strings.Repeat("x", i))] = strings.Repeat("\xff€", 1000)
	}
	s.observe(l, start)
	h := s.health()
	if len(h.Warnings) != maxWarnings || h.More != 1000-maxWarnings {
		t.Errorf("%d warnings and %d more", len(h.Warnings), h.More)
	}
	for _, w := range h.Warnings {
		if len(w) > maxText || strings.ToValidUTF8(w, "") != w {
			t.Errorf("warning of %d bytes: %q", len(w), w)
		}
	}
}

func TestGoneNamesAreForgottenAtLast(t *testing.T) {
	s := fresh(t, Config{})
	var l listing
	for i := range maxGone + 10 {
		v := update.VersionAt(time.Unix(int64(i), 0))
		l.files = append(l.files, sighting{name: update.NewName(s.product, v, update.TarGzip), stamp: at(start.Add(-time.Hour), 1)})
	}
	s.observe(l, start)
	s.observe(listing{files: l.files[:5]}, start.Add(time.Second))
	if len(s.entries) != maxGone+5 {
		t.Errorf("%d names remembered", len(s.entries))
	}
	if e := s.entries[l.files[0].name]; e == nil || e.state != listed {
		t.Error("a name that is there was forgotten")
	}
	if s.entries[l.files[len(l.files)-1].name] == nil {
		t.Error("the highest version that is gone was forgotten")
	}
}

func TestModificationTimeCenturiesAway(t *testing.T) {
	n := mustName(t, "opq-box-update-7.tar.bz2")
	s := fresh(t, Config{})
	far := disk.Stamp{Inode: 1, Size: 1, Modified: 1<<63 - 1}
	s.observe(listing{files: []sighting{{name: n, stamp: far}}}, time.Unix(-1000, 0))
	if s.entries[n].state == listed {
		t.Error("listed at once")
	}
}
