package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// story is a box that has one update, of a mirror that turns bad when the second one is published.
type story struct {
	*world
	bad *mirror
	box *device
	old map[string][]byte // what was published before the second update
	new []byte            // its archive
}

func newStory(t *testing.T) *story {
	t.Helper()
	w := newWorld(t)
	w.publish(trust.Conditions{}, map[string][]byte{one: w.pack(one, "")})
	s := &story{world: w, bad: w.mirror(), old: map[string][]byte{}}
	s.box = w.newDevice(nil, s.bad)
	s.box.must(0, "update")
	s.box.has("100", "100")
	for name, b := range w.files {
		s.old[name] = b
	}
	w.pass(time.Hour)
	s.box.now = w.at
	s.new = w.pack(two, "")
	w.publish(trust.Conditions{}, map[string][]byte{two: s.new})
	s.bad.sync(w)
	return s
}

// latest is the path of what is published now.
func (s *story) latest(role trust.Role) string {
	return "metadata/" + trust.FileName(role, s.repo.Version(role))
}

// TestAttacks is the list of attacks of the TUF specification, each by one mirror that changes one thing:
// a box that has no other installs nothing and says why, and one that has another goes on there.
func TestAttacks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		attack func(*story)
		code   int
		texts  []string
	}{
		{"arbitrary software: a repository by other keys", func(s *story) {
			other := newWorldOf(s.t, s.at, testworld.NewSigner("thief 1"), testworld.NewSigner("thief 2"), testworld.NewSigner("thief 3"))
			other.publish(trust.Conditions{}, map[string][]byte{two: s.pack(two, "echo stolen >>../../../../../ran")})
			for range 5 {
				other.next(trust.Change{})
			}
			s.bad.sync(other)
		}, status.ExitRefused, []string{"timestamp 7", "not enough signatures"}},
		{"arbitrary software: a list by another key", func(s *story) {
			p := s.bad.files[s.latest(trust.RoleTargets)]
			s.bad.put(s.latest(trust.RoleTargets), []byte(strings.Replace(string(p), two, "opq-box-update-201.tar.gz", 1)))
		}, status.ExitRefused, []string{"targets 3", "not the file that the signed metadata names"}},
		{"rollback: the set of before", func(s *story) {
			s.world.next(trust.Change{})
			s.bad.sync(s.world)
			s.box.must(status.ExitAvailable, "check")
			s.bad.mu.Lock()
			s.bad.files = s.old
			s.bad.mu.Unlock()
		}, status.ExitRefused, []string{"older than what was accepted before"}},
		{"freeze: nothing new for a week", func(s *story) {
			s.bad.mu.Lock()
			s.bad.files = s.old
			s.bad.mu.Unlock()
			s.world.pass(trust.TimestampLife)
			s.world.next(trust.Change{})
			s.box.now = s.at
		}, status.ExitRefused, []string{"expired", "the origin is down or this mirror is behind"}},
		{"mix and match: the snapshot of before", func(s *story) {
			s.bad.put(s.latest(trust.RoleSnapshot), s.old["metadata/2.snapshot.json"])
		}, status.ExitRefused, []string{"snapshot 3", "not the file that the signed metadata names"}},
		{"mix and match: the list of before", func(s *story) {
			s.bad.put(s.latest(trust.RoleTargets), s.old["metadata/2.targets.json"])
		}, status.ExitRefused, []string{"targets 3", "not the file that the signed metadata names"}},
		{"endless data: the timestamp", func(s *story) {
			s.bad.on(func(w http.ResponseWriter, r *http.Request) bool {
				if strings.HasSuffix(r.URL.Path, trust.TimestampName) {
					testworld.Endless(w, nil)
					return true
				}
				return false
			})
		}, status.ExitRefused, []string{"timestamp.json", "refused", "expected at most"}},
		{"endless data: the archive", func(s *story) {
			s.bad.on(func(w http.ResponseWriter, r *http.Request) bool {
				if strings.HasPrefix(r.URL.Path, "/sha256/"+update.Sum(s.new).String()) {
					testworld.Endless(w, nil)
					return true
				}
				return false
			})
		}, status.ExitRefused, []string{two, "refused"}},
		{"wrong software: another archive, which is genuine", func(s *story) {
			s.bad.put("sha256/"+update.Sum(s.new).String(), s.pack(one, ""))
		}, status.ExitRefused, []string{two, "refused"}},
		{"wrong software: one byte", func(s *story) {
			b := append([]byte(nil), s.new...)
			b[len(b)/2] ^= 1
			s.bad.put("sha256/"+update.Sum(s.new).String(), b)
		}, status.ExitRefused, []string{two, "block 0: expected digest", "got"}},
		{"no updates: a mirror that has nothing", func(s *story) {
			s.bad.on(func(w http.ResponseWriter, _ *http.Request) bool {
				http.Error(w, "Resource not found.", http.StatusNotFound)
				return true
			})
		}, status.ExitUnavailable, []string{"metadata not found"}},
		{"no updates: a mirror that is busy", func(s *story) {
			s.bad.on(func(w http.ResponseWriter, _ *http.Request) bool {
				http.Error(w, "Come back later.", http.StatusServiceUnavailable)
				return true
			})
		}, status.ExitUnavailable, []string{"unavailable", "503"}},
		{"a redirect elsewhere", func(s *story) {
			s.bad.on(func(w http.ResponseWriter, r *http.Request) bool {
				http.Redirect(w, r, "http://127.0.0.2:1/"+r.URL.Path, http.StatusFound)
				return true
			})
		}, status.ExitRefused, []string{"refused", "redirect"}},
		{"no JSON", func(s *story) { s.bad.put("metadata/timestamp.json", []byte(`{"signatures":[],"signed":null}`)) },
			status.ExitRefused, []string{"timestamp: malformed metadata"}},
		{"another digest for a name", func(s *story) {
			// Whoever has the release key may sign it; no box takes it.
			s.edit(func(e *trust.TargetsEdit) error { return e.Withdraw(named(s.t, one)) })
			e, err := s.repo.EditTargets(&trust.Ledger{}, 0, s.at)
			check(s.t, err)
			check(s.t, e.Add(trust.Addition{Name: named(s.t, one), Digest: update.Sum(s.new), Length: int64(len(s.new)), Blocks: update.Sum(update.Blocks{update.Sum(s.new)}.Bytes())}))
			p, err := e.Sign(s.t.Context(), s.release)
			check(s.t, err)
			good := s.repo
			repo, err := good.Next(s.t.Context(), s.at, trust.Change{Targets: p}, s.online)
			check(s.t, err)
			for _, role := range trust.Roles() {
				s.bad.put("metadata/"+trust.FileName(role, repo.Version(role)), repo.Raw(role))
			}
			s.edit(func(*trust.TargetsEdit) error { return nil }) // the numbers that the online key gave count
		}, status.ExitRefused, []string{one, "name already has another digest"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newStory(t)
			c.attack(s)
			s.box.must(c.code, "update").says(c.texts...)
			s.box.has("100", "100")
			good := s.mirror()
			s.box.configure(map[string]any{"mirrors": []string{s.bad.URL, good.URL}})
			s.box.must(0, "update").says("installed: " + two)
			s.box.has("200", "100 200")
			s.box.clean()
		})
	}
}

// TestWrongArchiveBesideGenuineSignature is the attack on the naive recipe: a mirror serves the genuine
// checksum line and signature of one update beside an archive of its own. Each command refuses that.
func TestWrongArchiveBesideGenuineSignature(t *testing.T) {
	w := newWorld(t)
	w.publish(trust.Conditions{}, map[string][]byte{one: w.pack(one, ""), two: w.pack(two, "")})
	m := w.mirror()
	w.plain(m, one, two)
	d := w.newDevice(nil, m)
	d.write("release.pub", w.release.Public().PEM())
	evil := w.pack(two, "echo stolen >>../../../../../ran")
	genuine := map[string][]byte{}
	for _, suffix := range []string{".sig", ".sha256"} {
		genuine[suffix] = m.files["update/"+one+suffix]
		m.put("update/"+two+suffix, genuine[suffix])
	}
	m.put("update/"+two, evil)
	digest := ""
	for _, rel := range w.repo.Releases() {
		if rel.Name() == named(t, two) {
			digest = rel.Digest().String()
		}
	}
	m.put("sha256/"+digest, evil)
	m.put("sha256/"+digest+".sha256", genuine[".sha256"])

	d.must(status.ExitRefused, "update").says(two, "refused", m.URL)
	d.must(status.ExitRefused, "fetch").says(two, "refused", m.URL)
	d.must(status.ExitRefused, "update", "--key", d.path("release.pub"), m.URL).says(two, "signature does not fit", m.URL)
	d.write(two, evil)
	d.write(two+".sig", genuine[".sig"])
	d.write(two+".sha256", genuine[".sha256"])
	d.write(one, w.pack(one, "")) // what the line names lies there too
	d.must(status.ExitRefused, "verify", d.path(two)).says("not the file that the signed metadata names")
	d.must(status.ExitRefused, "install", d.path(two)).says("not the file that the signed metadata names")
	d.must(status.ExitRefused, "verify", "--key", d.path("release.pub"), d.path(two)).says("signature does not fit")
	d.must(status.ExitRefused, "install", "--key", d.path("release.pub"), d.path(two)).says("signature does not fit")
	d.has("", "")
}

// TestOnlineKeyStolen: the thief counts versions up, which holds the box; the root replaces the key in two
// steps, and the box goes on.
func TestOnlineKeyStolen(t *testing.T) {
	s := newStory(t)
	thief := s.repo
	for range 40 {
		next, err := thief.Next(t.Context(), s.at, trust.Change{}, s.online)
		check(t, err)
		thief = next
	}
	s.bad.put("metadata/timestamp.json", thief.Raw(trust.RoleTimestamp))
	s.bad.put("metadata/"+trust.FileName(trust.RoleSnapshot, thief.Version(trust.RoleSnapshot)), thief.Raw(trust.RoleSnapshot))
	s.box.must(status.ExitAvailable, "check")
	s.bad.sync(s.world)
	s.box.must(status.ExitRefused, "update").says("older than what was accepted before")

	s.replaceOnlineKey()
	s.bad.sync(s.world)
	s.box.must(0, "update").says("installed: " + two)
	s.box.has("200", "100 200")
	s.box.must(0, "status").says("root: version 3")
	// What the thief signs counts for nothing now.
	s.bad.put("metadata/timestamp.json", thief.Raw(trust.RoleTimestamp))
	s.box.must(status.ExitRefused, "update").says("timestamp 43", "not enough signatures")
}

// TestReleaseKeyStolen: the root replaces the key, the box follows, and what the old one signs is refused.
func TestReleaseKeyStolen(t *testing.T) {
	s := newStory(t)
	fresh, old := testworld.NewSigner("release 2"), s.release
	s.newRoot(func(e *trust.RootEdit) error { return e.AddKey(trust.RoleTargets, fresh.Public()) })
	s.release = fresh
	s.edit(func(e *trust.TargetsEdit) error { return e.Withdraw(named(t, two)) })
	before := s.repo
	s.newRoot(func(e *trust.RootEdit) error { return e.RemoveKey(trust.RoleTargets, old.Public().ID()) })
	s.bad.sync(s.world)
	s.box.must(0, "update").says("update: none")

	e, err := before.EditTargets(s.state.Ledger(), 0, s.at)
	check(t, err)
	evil := s.pack(three, "echo stolen >>../../../../../ran")
	check(t, e.Add(trust.Addition{Name: named(t, three), Digest: update.Sum(evil), Length: int64(len(evil)), Blocks: update.Sum(update.Blocks{update.Sum(evil)}.Bytes())}))
	p, err := e.Sign(t.Context(), old)
	check(t, err)
	stolen, err := before.Next(t.Context(), s.at, trust.Change{Targets: p}, s.online)
	check(t, err)
	// The thief has the online key too.
	for range 3 {
		stolen, err = stolen.Next(t.Context(), s.at, trust.Change{}, s.online)
		check(t, err)
	}
	for _, role := range []trust.Role{trust.RoleTargets, trust.RoleSnapshot, trust.RoleTimestamp} {
		s.bad.put("metadata/"+trust.FileName(role, stolen.Version(role)), stolen.Raw(role))
	}
	s.bad.put("sha256/"+update.Sum(evil).String(), evil)
	s.box.must(status.ExitRefused, "update").says(fmt.Sprintf("targets %d: not enough signatures", stolen.Version(trust.RoleTargets)))
	s.box.has("100", "100")

	// A mirror that withholds the roots doesn't bring the old key back.
	s.bad.put("metadata/2.root.json", nil)
	s.bad.put("metadata/3.root.json", nil)
	s.box.must(status.ExitRefused, "update").says("not enough signatures")
	s.box.has("100", "100")
	// What the thief counted up with the online key counts, until that key is replaced as well.
	s.bad.sync(s.world)
	s.box.must(status.ExitRefused, "update").says("older than what was accepted before")
	s.replaceOnlineKey()
	s.bad.sync(s.world)
	s.box.must(0, "update").says("update: none")
}

// TestClock: a box without a clock, one whose clock is far ahead and set right later, and one that was
// built later than what a mirror has.
func TestClock(t *testing.T) {
	w := newWorld(t)
	w.publish(trust.Conditions{}, map[string][]byte{one: w.pack(one, "")})
	m := w.mirror()
	t.Run("1970", func(t *testing.T) {
		d := w.newDevice(nil, m)
		d.now, d.t = time.Unix(42, 0), t
		d.must(0, "update").says("installed: " + one)
		d.has("100", "100")
	})
	t.Run("1970, built later", func(t *testing.T) {
		d := w.newDevice(nil, m)
		d.now, d.built, d.t = time.Unix(42, 0), start.Add(8*24*time.Hour), t
		d.must(status.ExitRefused, "update").says("expired at 2026-03-08T12:00:00Z", "though this clock says 1970-01-01T00:00:42Z: set the clock")
		d.has("", "")
	})
	t.Run("1970, and a timestamp seen that is newer than what a mirror has", func(t *testing.T) {
		w := newWorld(t)
		w.publish(trust.Conditions{}, map[string][]byte{one: w.pack(one, "")})
		m, frozen := w.mirror(), w.mirror()
		d := w.newDevice(nil, m)
		d.now = time.Unix(42, 0)
		w.pass(8 * 24 * time.Hour)
		w.next(trust.Change{})
		m.sync(w)
		d.must(status.ExitAvailable, "check")
		d.configure(map[string]any{"mirrors": []string{frozen.URL}})
		d.must(status.ExitRefused, "check").says("older than what was accepted before")
	})
	t.Run("2040, set right later", func(t *testing.T) {
		d := w.newDevice(nil, m)
		d.now, d.t = time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC), t
		d.must(status.ExitRefused, "update").says("expired", "if the clock is right")
		d.has("", "")
		d.now = start.Add(time.Hour)
		d.must(0, "update").says("installed: " + one)
		d.has("100", "100")
		d.now = time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC)
		d.must(status.ExitRefused, "check").says("expired")
		d.now = start.Add(2 * time.Hour)
		d.must(0, "check").says("update: none")
	})
}

// TestAcceptStale: an operator may accept a list that is expired, for so long and no longer.
func TestAcceptStale(t *testing.T) {
	w := newWorld(t)
	w.publish(trust.Conditions{}, map[string][]byte{one: w.pack(one, "")})
	m := w.mirror()
	d := w.newDevice(nil, m)
	d.now = start.Add(trust.TimestampLife + 24*time.Hour)
	d.must(status.ExitRefused, "update").says("expired")
	d.configure(map[string]any{"accept_stale": "48h"})
	d.must(0, "update").says("installed: "+one, "warning: the metadata of the mirrors expired at 2026-03-08T12:00:00Z; accept_stale allows that")
	d.must(0, "status").says("stale: since 2026-03-08T12:00:00Z, accepted because of accept_stale")
	d.now = start.Add(trust.TimestampLife + 49*time.Hour)
	d.must(status.ExitRefused, "update").says("expired")
	d.configure(map[string]any{"accept_stale": "8760h"})
	d.now = start.Add(trust.RootLife + time.Hour)
	d.must(status.ExitRefused, "update").says("root", "expired")
}
