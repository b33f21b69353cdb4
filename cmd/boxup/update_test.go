package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
)

const (
	one   = "opq-box-update-100.tar.gz"
	two   = "opq-box-update-200.tar.gz"
	three = "opq-box-update-300.tar.gz"
)

// TestUpdate takes a box from nothing to one update and to the next. When nothing is new, that costs one
// small request.
func TestUpdate(t *testing.T) {
	w := newWorld(t)
	w.publish(trust.Conditions{}, map[string][]byte{one: w.pack(one, "")})
	m := w.mirror()
	d := w.newDevice(nil, m)
	d.must(status.ExitAvailable, "check").says("installed: nothing\nupdate: " + one + "\n")
	d.has("", "")
	d.must(0, "update").says("installed: " + one + "\n")
	d.has("100", "100")
	d.clean()

	m.asked()
	for range 2 {
		d.must(0, "check").says("installed: " + one + "\nupdate: none: up to date\n")
		m.sole(t, "GET metadata/timestamp.json 304")
		d.must(0, "update").says("update: none: up to date\n")
		m.sole(t, "GET metadata/timestamp.json 304")
	}

	w.publish(trust.Conditions{}, map[string][]byte{two: w.pack(two, "")})
	m.sync(w)
	d.must(0, "update").says("installed: " + two + "\n")
	d.has("200", "100 200")
	d.clean()
	d.must(0, "status").says("installed: "+two, "previous: "+one, "mirror: "+m.URL, "root: version 1", "checked: 2026-03-01T12:00:00Z")
}

// TestStepByStep fetches, verifies and installs in four commands.
func TestStepByStep(t *testing.T) {
	w := newWorld(t)
	archive := w.pack(one, "")
	w.publish(trust.Conditions{}, map[string][]byte{one: archive})
	m := w.mirror()
	d := w.newDevice(nil, m)
	d.must(0, "status").says("problem: no mirror was asked yet: run boxup check\n")
	d.must(cliFailed, "install").says("no mirror was asked yet", "hint: run boxup check")
	d.must(status.ExitAvailable, "check")
	d.must(cliFailed, "install").says(one+" is not downloaded", "hint: download it with boxup fetch "+one)
	d.must(0, "fetch").says("fetched: "+one, "file: "+d.path("S/sha256/"))
	m.asked()
	d.must(0, "fetch").says("fetched: " + one)
	m.sole(t, "GET metadata/timestamp.json 304")
	d.must(0, "install").says("installed: " + one)
	if got := m.asked(); got != nil {
		t.Errorf("install asked for %q", got)
	}
	d.has("100", "100")
	d.clean()
	d.must(0, "install").says("update: none: up to date")

	d.write(one, archive)
	d.must(0, "verify", d.path(one)).says("verified: "+one, "by: list 2 of the trusted repository")
	d.must(0, "install", "--force", d.path(one)).says("installed: " + one)
	d.has("100", "100 100")
	archive[20] ^= 1
	d.write(one, archive)
	d.must(status.ExitRefused, "verify", d.path(one)).says(one, "with digest", "got", "hint: this is not the file that was signed")
	d.must(status.ExitRefused, "install", "--force", d.path(one)).says(one, "hint: this is not the file that was signed")
	d.has("100", "100 100")
}

const cliFailed = 1

// TestNamedInstall: who names an update gets it before the rollout has come, unless it is for others.
func TestNamedInstall(t *testing.T) {
	w := newWorld(t)
	later := &trust.Rollout{Steps: []trust.Step{{After: time.Hour, Percent: 100}}}
	w.publish(trust.Conditions{Rollout: later}, map[string][]byte{one: w.pack(one, "")})
	w.publish(trust.Conditions{Hardware: []string{"rev-b"}}, map[string][]byte{two: w.pack(two, "")})
	w.publish(trust.Conditions{MinVersion: named(t, two).Version()}, map[string][]byte{three: w.pack(three, "")})
	d := w.newDevice(map[string]any{"hardware": "rev-a"}, w.mirror())
	d.must(0, "check").says("update: none", "not yet: "+three+": it installs over version 200 or newer, and none is installed",
		"not yet: "+two+": it is for hardware rev-b, and this is rev-a", "not yet: "+one+": 0% of the boxes take it by now", "planned for 2026-03-01T13:00:00Z")
	d.must(0, "fetch").says("update: none", "not yet: "+one)
	d.must(0, "fetch", one)
	d.must(0, "install", one).says("warning: "+one+": 0% of the boxes take it by now", "planned for 2026-03-01T13:00:00Z; installing it anyway, because you named it")
	d.has("100", "100")
	for _, flag := range []string{"--force", "--allow-downgrade"} { // neither is for that
		d.must(status.ExitRefused, "install", flag, two).says(two, "it is for hardware rev-b")
		d.must(status.ExitRefused, "install", flag, three).says(three, "it installs over version 200")
	}
	d.now = start.Add(2 * time.Hour)
	if a := d.must(0, "install", "--force", d.fetched(one)); strings.Contains(a.err, "named") {
		t.Errorf("the rollout has reached the box, and it says %s", a.err)
	}
	d.must(status.ExitRefused, "install", two).says(two, "it is for hardware rev-b")
	d.must(status.ExitRefused, "install", three).says(three, "it installs over version 200")
	d.must(status.ExitRefused, "install", "opq-box-update-400.tar.gz").says("is not in the signed list")
	d.must(2, "install", "nonsense").says("expected the name of an update or an existing file")
	d.has("100", "100 100")
}

// TestNeededStep: the newest needs another one first, and both are installed in one run.
func TestNeededStep(t *testing.T) {
	w := newWorld(t)
	w.publish(trust.Conditions{}, map[string][]byte{one: w.pack(one, "")})
	w.publish(trust.Conditions{MinVersion: named(t, one).Version()}, map[string][]byte{two: w.pack(two, "")})
	w.publish(trust.Conditions{MinVersion: named(t, two).Version()}, map[string][]byte{three: w.pack(three, "")})
	d := w.newDevice(nil, w.mirror())
	d.must(status.ExitAvailable, "check").says("update: "+one, "not yet: "+three, "not yet: "+two)
	d.must(0, "update").says("installed: " + one + "\ninstalled: " + two + "\ninstalled: " + three + "\n")
	d.has("300", "100 200 300")
	d.clean()
}

// TestRolloutReachesABox: time brings the update, and a pause that is signed keeps it away.
func TestRolloutReachesABox(t *testing.T) {
	w := newWorld(t)
	steps := []trust.Step{{After: time.Hour, Percent: 100}}
	w.publish(trust.Conditions{Rollout: &trust.Rollout{Steps: steps}}, map[string][]byte{one: w.pack(one, "")})
	m := w.mirror()
	d, early := w.newDevice(nil, m), w.newDevice(nil, m)
	d.must(0, "update").says("not yet: " + one)
	early.must(0, "check").says("not yet: " + one)
	d.now = start.Add(time.Hour)
	d.must(0, "update").says("installed: " + one)
	d.has("100", "100")

	w.pass(time.Minute)
	w.edit(func(e *trust.TargetsEdit) error {
		return e.Condition(named(t, one), trust.Conditions{Rollout: &trust.Rollout{Steps: steps, Paused: true, PausedAt: time.Minute}})
	})
	m.sync(w)
	early.now = start.Add(time.Hour)
	early.must(0, "update").says("not yet: "+one, "the rollout is paused")
	early.has("", "")
}

// TestOnlineKeyMovesNoStep: a timestamp that is issued four days ahead completes no rollout, but for boxes whose clock
// says nothing.
func TestOnlineKeyMovesNoStep(t *testing.T) {
	w := newWorld(t)
	w.publish(trust.Conditions{Rollout: &trust.Rollout{Steps: []trust.Step{{After: 72 * time.Hour, Percent: 100}}}}, map[string][]byte{one: w.pack(one, "")})
	w.pass(4 * 24 * time.Hour)
	w.next(trust.Change{})
	m := w.mirror()
	d, without := w.newDevice(nil, m), w.newDevice(nil, m)
	d.now, without.now = start.Add(time.Minute), time.Unix(42, 0)
	d.must(0, "update").says("not yet: " + one)
	d.now = start.Add(72*time.Hour - time.Second)
	d.must(0, "update").says("not yet: " + one)
	d.now = start.Add(72 * time.Hour)
	d.must(0, "update").says("installed: " + one)
	without.must(0, "update").says("installed: " + one)
}

// TestPauseReachesWhoHearsNothing: what a box was told once counts until its timestamp expires.
func TestPauseReachesWhoHearsNothing(t *testing.T) {
	w := newWorld(t)
	w.publish(trust.Conditions{}, map[string][]byte{one: w.pack(one, "")})
	m := w.mirror()
	d := w.newDevice(nil, m)
	d.must(0, "fetch")
	m.Close()
	d.now = start.Add(trust.TimestampLife + time.Second)
	d.must(status.ExitRefused, "install").says("timestamp 2", "expired", "2026-03-08T12:00:00Z")
	d.must(status.ExitRefused, "install", one).says("expired")
	d.write(one, w.pack(one, ""))
	d.must(status.ExitRefused, "install", d.path(one)).says("expired")
	d.must(status.ExitRefused, "verify", d.path(one)).says("expired")
	d.must(status.ExitUnavailable, "update").says("unavailable", "connection refused")
	d.has("", "")
	d.must(0, "status").says("problem: ", "expired", "last error: ")
	d.now = start.Add(trust.TimestampLife - time.Second)
	d.must(0, "install")
	d.has("100", "100")
}

// TestFailures: a script that fails leaves the version that was there, and after three times the update is
// set aside until a newer one comes.
func TestFailures(t *testing.T) {
	w := newWorld(t)
	w.publish(trust.Conditions{}, map[string][]byte{one: w.pack(one, "")})
	m := w.mirror()
	d := w.newDevice(nil, m)
	d.must(0, "update")
	w.publish(trust.Conditions{}, map[string][]byte{two: w.pack(two, "echo oh no; exit 3")})
	m.sync(w)
	for range 3 {
		d.must(status.ExitScript, "update").says(two, "install script failed", "hint: its output is in "+d.path("S/install/log/install.log"))
	}
	d.has("100", "100 200 200 200")
	d.clean()
	d.must(0, "status").says("set aside: "+two+": 3 times", "not yet: "+two+": it failed on this box")
	d.must(status.ExitHeld, "update").says("not yet: " + two + ": it failed on this box")
	d.must(0, "check").says("update: none", "not yet: "+two)
	d.must(status.ExitScript, "install", "--force", d.fetched(two)).says("install script failed")
	d.has("100", "100 200 200 200 200")

	w.publish(trust.Conditions{}, map[string][]byte{three: w.pack(three, "")})
	m.sync(w)
	d.must(0, "update").says("installed: " + three)
	d.has("300", "100 200 200 200 200 300")
	d.clean()
}

// fetched fetches an update by its name, and returns that.
func (d *device) fetched(name string) string {
	d.t.Helper()
	d.must(0, "fetch", name)
	return name
}

// TestImproper: an archive without an install script is refused, and the older update that the box may
// take goes in.
func TestImproper(t *testing.T) {
	w := newWorld(t)
	n := named(t, two)
	for name, c := range map[string]struct {
		files map[string]string
		text  string
	}{
		"no script":       {map[string]string{"VERSION": "200\n"}, "install_update.sh"},
		"another version": {map[string]string{"VERSION": "201\n", "install_update.sh": "#!/bin/sh\n"}, "201"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorldAt(t, w.at)
			w.publish(trust.Conditions{}, map[string][]byte{one: w.pack(one, ""), two: tarball(t, n, c.files)})
			d := w.newDevice(nil, w.mirror())
			d.must(status.ExitImproper, "update").says(two, c.text, "hint: it was signed by mistake")
			d.has("", "")
			d.clean()
			d.must(0, "update").says("installed: "+one, "not yet: "+two+": it failed on this box")
			d.has("100", "100")
		})
	}
}

// TestDowngrade: what is installed is withdrawn. The box stays, until a person says otherwise.
func TestDowngrade(t *testing.T) {
	w := newWorld(t)
	w.publish(trust.Conditions{}, map[string][]byte{one: w.pack(one, ""), two: w.pack(two, "")})
	m := w.mirror()
	d := w.newDevice(nil, m)
	d.must(0, "update")
	d.has("200", "200")
	w.edit(func(e *trust.TargetsEdit) error { return e.Withdraw(named(t, two)) })
	m.sync(w)
	d.must(0, "update").says("update: none")
	d.must(0, "check").says("note: the installed update is not in the signed list any more")
	d.must(0, "fetch", one)
	d.must(status.ExitRefused, "install", one).says("lower than the version that is installed", "hint: --allow-downgrade")
	d.write(two, w.pack(two, ""))
	d.must(status.ExitRefused, "install", "--force", d.path(two)).says("is not in the signed list")
	d.has("200", "200")
	d.must(0, "update", "--allow-downgrade").says("installed: " + one)
	d.has("100", "200 100")
	d.must(0, "update", "--allow-downgrade").says("update: none")
	d.has("100", "200 100")
}

// TestFormats: of one version in several formats the shortest comes.
func TestFormats(t *testing.T) {
	w := newWorld(t)
	long := tarball(t, named(t, "opq-box-update-100.tar.gz"), map[string]string{"VERSION": "100\n", "install_update.sh": "#!/bin/sh\nexit 1\n", "data": noise(5000)})
	short := w.pack(one, "")
	w.publish(trust.Conditions{}, map[string][]byte{"opq-box-update-100.tar.bz2": long, one: short})
	d := w.newDevice(nil, w.mirror())
	d.must(status.ExitAvailable, "check").says("update: " + one)
}

// noise is text that can't be packed.
func noise(n int) string {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b) // never fails
	return string(b)
}

func TestOtherProduct(t *testing.T) {
	w := newWorld(t)
	w.publish(trust.Conditions{}, map[string][]byte{"other-500.tar.gz": w.pack("other-500.tar.gz", ""), one: w.pack(one, "")})
	d := w.newDevice(nil, w.mirror())
	d.must(status.ExitAvailable, "check").says("update: " + one)
	d.must(0, "fetch", "other-500.tar.gz")
	d.must(status.ExitRefused, "install", "other-500.tar.gz").says("another product")
}

// TestWindow: outside of the window an update is fetched, and waits.
func TestWindow(t *testing.T) {
	w := newWorld(t)
	w.publish(trust.Conditions{}, map[string][]byte{one: w.pack(one, "")})
	m := w.mirror()
	d := w.newDevice(map[string]any{"window": "02:00-04:00"}, m)
	d.must(status.ExitHeld, "update").says("update: "+one+"\nwaits: it is downloaded, and will be installed between 02:00-04:00\n", "installed: nothing")
	d.has("", "")
	m.asked()
	d.now = time.Date(2026, 3, 2, 2, 0, 0, 0, time.UTC)
	d.must(0, "update").says("installed: " + one)
	m.sole(t, "GET metadata/timestamp.json 304")
	d.has("100", "100")
	d.now = start.Add(time.Hour)
	w.publish(trust.Conditions{}, map[string][]byte{two: w.pack(two, "")})
	m.sync(w)
	d.must(status.ExitHeld, "update")
	d.must(0, "update", "--any-time").says("installed: " + two)
}

// TestSplay: a command waits for a part of what was said before it asks.
func TestSplay(t *testing.T) {
	w := newWorld(t)
	m := w.mirror()
	d := w.newDevice(nil, m)
	d.random = 0.25
	d.must(0, "check", "--splay", "40m")
	d.must(0, "update", "--splay", "1h")
	d.must(0, "fetch")
	if len(d.slept) != 2 || d.slept[0] != 10*time.Minute || d.slept[1] != 15*time.Minute {
		t.Errorf("waited %v", d.slept)
	}
	d.must(2, "check", "--splay", "-1s").says("expected no negative duration")
}

// TestDailyCap: an update of three blocks arrives in three days, and none of its bytes twice.
func TestDailyCap(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	big := tarball(t, named(t, one), map[string]string{"VERSION": "100\n", "install_update.sh": "#!/bin/sh\necho $BOXUP_VERSION >>../../../../../ran", "data": noise(9 << 20)})
	w.publish(trust.Conditions{}, map[string][]byte{one: big})
	m := w.mirror()
	d := w.newDevice(map[string]any{"max_bytes_per_day": 5 << 20}, m)
	d.must(status.ExitHeld, "update").says("the daily cap is reached", "max_bytes_per_day leaves 1048576 today")
	d.must(0, "status").says("left today: 1048576")
	m.asked()
	d.must(status.ExitHeld, "update").says("the daily cap is reached")
	for _, r := range m.asked() {
		if strings.Contains(r, "sha256") && !strings.HasSuffix(r, ".blocks 200") {
			t.Errorf("asked for %s", r)
		}
	}
	d.now = d.now.Add(24 * time.Hour)
	d.must(status.ExitHeld, "update").says("the daily cap is reached")
	d.has("", "")
	d.now = d.now.Add(24 * time.Hour)
	d.must(0, "update").says("installed: " + one)
	d.has("100", "100")
	for _, r := range m.asked() {
		if strings.Contains(r, "sha256") && strings.HasSuffix(r, " 200") && !strings.HasSuffix(r, ".blocks 200") {
			t.Errorf("asked for all of it: %s", r)
		}
	}
	d.clean()
}

// TestOneAtATime: a second boxup says who is at work; status, and verify, work beside it.
func TestOneAtATime(t *testing.T) {
	w := newWorld(t)
	w.publish(trust.Conditions{}, map[string][]byte{one: w.pack(one, "")})
	m := w.mirror()
	d := w.newDevice(nil, m)
	d.must(0, "fetch")
	d.write(one, w.pack(one, ""))
	m.on(func(http.ResponseWriter, *http.Request) bool {
		for _, args := range [][]string{{"check"}, {"update"}, {"fetch"}, {"install"}} {
			d.must(status.ExitLocked, args...).says("locked by another process (process ", "hint: another boxup is running")
		}
		d.must(0, "status").says("update: " + one)
		d.must(0, "verify", d.path(one))
		return false
	})
	d.must(status.ExitAvailable, "check")
}

// TestDamagedRecord: a box whose own notes are lost goes on.
func TestDamagedRecord(t *testing.T) {
	w := newWorld(t)
	w.publish(trust.Conditions{}, map[string][]byte{one: w.pack(one, "")})
	d := w.newDevice(nil, w.mirror())
	d.must(0, "update")
	d.write("S/box.json", []byte("{"))
	d.must(0, "check").says("warning: ", "S/box.json: damaged: line 1, column 2: expected more, got the end; its copy is used")
	d.write("S/box.json", []byte("{"))
	d.write("S/box.json.copy", nil)
	d.must(0, "check").says("warning: the record of mirrors is lost")
	if a := d.must(0, "check"); a.err != "" {
		t.Errorf("still says %s", a.err)
	}
	check(t, os.RemoveAll(d.path("S/metadata")))
	d.must(0, "update").says("update: none")
	d.has("100", "100")
}

// TestOddDirectories: a state directory whose name is a pattern, with blanks and quotes in it, works as any other.
func TestOddDirectories(t *testing.T) {
	w := newWorld(t)
	w.publish(trust.Conditions{}, map[string][]byte{one: w.pack(one, ""), two: w.pack(two, "")})
	d := w.newDevice(map[string]any{"state": "../[S]* it's $HOME"}, w.mirror())
	check(t, errors.Join(os.RemoveAll(d.path("S")), os.Symlink("[S]* it's $HOME", d.path("S"))))
	d.must(0, "fetch", one)
	part := "S/staging/" + strings.Repeat("ab", 32) + ".part"
	d.write(part, []byte("part"))
	d.must(0, "fetch", two)
	if all := glob(d.path("S/sha256/*/*")); len(all) != 1 {
		t.Errorf("kept %q", all)
	}
	if _, err := os.Stat(d.path(part)); err == nil {
		t.Error("the part of another update is still there")
	}
	d.must(0, "update")
	d.has("200", "200")
	d.clean()
}

// TestFetchedBefore: what was fetched is installed in the maintenance window, whether or not a mirror can be
// reached then, as long as the list that it stands in is not expired. Whoever refuses it stops that.
func TestFetchedBefore(t *testing.T) {
	w := newWorld(t)
	w.publish(trust.Conditions{}, map[string][]byte{one: w.pack(one, "")})
	m := w.mirror()
	d := w.newDevice(map[string]any{"window": "02:00-04:00"}, m)
	d.must(status.ExitHeld, "update").says("waits: it is downloaded")
	m.on(func(rw http.ResponseWriter, _ *http.Request) bool {
		http.Error(rw, "bad gateway", http.StatusBadGateway)
		return true
	})
	night := time.Date(2026, 3, 2, 2, 0, 0, 0, time.UTC)
	d.now = night.Add(7 * 24 * time.Hour)
	d.must(status.ExitUnavailable, "update").says("502")
	d.now = night
	m.put("metadata/timestamp.json", []byte(`{"signatures":[],"signed":null}`))
	m.on(nil)
	d.must(status.ExitRefused, "update").says("malformed")
	d.has("", "")
	m.sync(w)
	m.Close()
	d.must(0, "update").says("installed: "+one, "warning: no mirror could be reached", "installing the update that was fetched before")
	d.has("100", "100")
	d.clean()
	d.must(status.ExitUnavailable, "update")
}

// TestTwoProducts: versions of two products say nothing of each other, so each has a state directory of its own.
func TestTwoProducts(t *testing.T) {
	w := newWorld(t)
	const other = "other-50.tar.gz"
	w.publish(trust.Conditions{}, map[string][]byte{other: w.pack(other, ""), one: w.pack(one, "")})
	m := w.mirror()
	w.plain(m, one, other)
	d := w.newDevice(nil, m)
	d.must(0, "update")
	d.write("release.pub", w.release.Public().PEM())
	d.configure(map[string]any{"product": "other"})
	for _, args := range [][]string{{"check"}, {"update"}, {"install", other}, {"update", "--key", d.key(), m.URL}} {
		d.must(status.ExitRefused, args...).says(d.path("S")+": expected updates of product other, got "+one, "hint: give each product a state directory of its own")
	}
	d.has("100", "100")
	d.must(0, "status").says("installed: " + one)
	d.configure(map[string]any{"state": "../S2"})
	check(t, os.WriteFile(d.path("ran"), nil, 0o644))
	d.must(0, "update").says("installed: " + other)
	if got := d.ran(); got != "50" {
		t.Errorf("scripts %q ran", got)
	}
}

// TestFullDisk: a disk without room for a new list is told of as such, and does no harm.
func TestFullDisk(t *testing.T) {
	w := newWorld(t)
	w.publish(trust.Conditions{}, map[string][]byte{one: w.pack(one, "")})
	m := w.mirror()
	d := w.newDevice(map[string]any{"state": "../D", "root": "root.json"}, m)
	check(t, os.Mkdir(d.path("D"), 0o700))
	if err := syscall.Mount("tmpfs", d.path("D"), "tmpfs", 0, "size=9m"); err != nil {
		testworld.NotTested(t, "a full disk", err)
	}
	t.Cleanup(func() { check(t, syscall.Unmount(d.path("D"), syscall.MNT_DETACH)) })
	d.must(0, "update")
	w.publish(trust.Conditions{}, map[string][]byte{two: w.pack(two, "")})
	m.sync(w)
	f, err := os.Create(d.path("D/ballast"))
	check(t, err)
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	check(t, f.Close())
	d.must(status.ExitNoSpace, "check").says("no space left on device")
	d.must(status.ExitNoSpace, "update").says("no space left on device")
	d.must(0, "status").says("installed: " + one)
	check(t, os.Remove(d.path("D/ballast")))
	d.must(0, "update").says("installed: " + two)
}

// TestDiskFails: a disk that is read-only or fails is told of as such, and nobody else is blamed for it.
func TestDiskFails(t *testing.T) {
	w := newWorld(t)
	w.publish(trust.Conditions{}, map[string][]byte{one: w.pack(one, "")})
	d := w.newDevice(map[string]any{"state": "../D", "root": "root.json"}, w.mirror())
	const hint = "hint: the disk of this box fails or is read-only"
	d.must(status.ExitAvailable, "check", "--state", d.path("S2"))
	check(t, os.Remove(d.path("S2/metadata/1.root.json")))
	check(t, os.Symlink("/proc/self/mem", d.path("S2/metadata/1.root.json"))) // begins with EIO
	d.must(0, "update", "--state", d.path("S2")).says("installed: "+one, "warning: the disk damaged", "input/output error")

	root := d.path("C/root.json")
	check(t, os.Rename(root, root+".kept"))
	check(t, os.Symlink("/proc/self/mem", root))
	d.must(0, "check", "--state", d.path("S2")).says("root.json is damaged, so its copy is used")
	check(t, os.Rename(root+".kept", root))

	check(t, os.Mkdir(d.path("D"), 0o700))
	if err := syscall.Mount("tmpfs", d.path("D"), "tmpfs", 0, ""); err != nil {
		testworld.NotTested(t, "a disk that is read-only", err)
	}
	t.Cleanup(func() { check(t, syscall.Unmount(d.path("D"), syscall.MNT_DETACH)) })
	d.must(status.ExitAvailable, "check")
	check(t, syscall.Mount("tmpfs", d.path("D"), "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	d.must(cliFailed, "update").says("read-only file system", hint)
	check(t, syscall.Mount("tmpfs", d.path("D"), "tmpfs", syscall.MS_REMOUNT, ""))
	d.must(0, "update").says("installed: " + one)
}

// TestUndeletableDownload: what was fetched before and can't be removed keeps no update away.
func TestUndeletableDownload(t *testing.T) {
	w := newWorld(t)
	w.publish(trust.Conditions{}, map[string][]byte{one: w.pack(one, "")})
	m := w.mirror()
	d := w.newDevice(nil, m)
	d.must(0, "fetch")
	blobs := glob(d.path("S/sha256/*/*"))
	if len(blobs) == 0 {
		t.Fatal("nothing was fetched")
	}
	if out, err := exec.Command("chattr", append([]string{"+i"}, blobs...)...).CombinedOutput(); err != nil {
		testworld.NotTested(t, "files that can't be removed", fmt.Errorf("%w: %s", err, out))
	}
	t.Cleanup(func() { check(t, exec.Command("chattr", "-R", "-i", d.path("S")).Run()) })
	w.publish(trust.Conditions{}, map[string][]byte{two: w.pack(two, "")})
	m.sync(w)
	d.must(0, "update").says("installed: "+two, "can't remove an archive that is no longer needed")
}
