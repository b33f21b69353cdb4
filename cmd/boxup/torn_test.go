package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
)

// TestTornState: whichever file of its state a box has lost, or finds torn, it comes to the newest update by
// itself. Nobody stands beside it.
func TestTornState(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(trust.Conditions{}, map[string][]byte{one: w.pack(one, "")})
	m := w.mirror()
	base := w.newDevice(map[string]any{"state": "../S", "root": "root.json"}, m)
	base.must(0, "update")
	for range 2 {
		w.newRoot(func(*trust.RootEdit) error { return nil })
	}
	w.publish(trust.Conditions{}, map[string][]byte{two: w.pack(two, "")})
	m.sync(w)
	base.must(0, "fetch")
	var files []string
	check(t, filepath.WalkDir(base.path("S"), func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && filepath.Base(path) != "boxup.lock" && filepath.Base(path) != "lock" {
			files = append(files, strings.TrimPrefix(path, base.dir+"/"))
		}
		return err
	}))
	if len(files) < 10 {
		t.Fatalf("found only %q", files)
	}
	for _, file := range files {
		for name, tear := range map[string]func([]byte) []byte{
			"lost":       nil,
			"empty":      func([]byte) []byte { return []byte{} },
			"zeros":      func(b []byte) []byte { return make([]byte, len(b)) },
			"half":       func(b []byte) []byte { return b[:len(b)/2] },
			"unreadable": nil,
			"garbage":    func(b []byte) []byte { return bytes.Map(func(r rune) rune { return r ^ 1 }, b) },
		} {
			t.Run(file+" "+name, func(t *testing.T) {
				t.Parallel()
				d := base.copied(t)
				whole, err := os.ReadFile(d.path(file))
				check(t, err)
				check(t, os.Remove(d.path(file)))
				if name == "unreadable" {
					check(t, os.Symlink("/proc/self/mem", d.path(file))) // begins with EIO
				} else if tear != nil {
					check(t, os.WriteFile(d.path(file), tear(whole), 0o600))
				}
				d.must(0, "update")
				if got := d.installed(); got != "200" {
					t.Errorf("version %s is installed", got)
				}
				d.clean()
				if a := d.must(0, "update"); a.err != "" {
					t.Errorf("still says %s", a.err)
				}
			})
		}
	}
}

// TestRepairTakesNoLess: where the newest root is torn, a mirror that withholds it does not bring the box back
// to the one before, whose key was stolen.
func TestRepairTakesNoLess(t *testing.T) {
	s := newStory(t)
	fresh, old := testworld.NewSigner("online 2"), s.online
	online := []trust.Role{trust.RoleSnapshot, trust.RoleTimestamp}
	s.newRoot(func(e *trust.RootEdit) error {
		return errors.Join(e.AddKey(online[0], fresh.Public()), e.AddKey(online[1], fresh.Public()))
	}, fresh)
	s.next(trust.Change{}, fresh)
	thief := s.repo
	s.online = fresh
	s.newRoot(func(e *trust.RootEdit) error {
		return errors.Join(e.RemoveKey(online[0], old.Public().ID()), e.RemoveKey(online[1], old.Public().ID()))
	}, fresh)
	s.bad.sync(s.world)
	s.box.must(status.ExitAvailable, "check")
	s.box.write("S/metadata/3.root.json", []byte("{"))

	s.box.write("S/metadata/timestamp.json", []byte("{")) // so that no number tells
	stolen, err := thief.Next(t.Context(), s.at, trust.Change{}, old)
	check(t, err)
	for _, role := range []trust.Role{trust.RoleTargets, trust.RoleSnapshot, trust.RoleTimestamp} {
		s.bad.put("metadata/"+trust.FileName(role, stolen.Version(role)), stolen.Raw(role))
	}
	s.bad.put("metadata/3.root.json", nil)
	s.box.must(status.ExitRefused, "update").says("root 2: older than what was accepted before: version 3 was")
	s.box.must(0, "status").says("nothing is known about updates yet", "3.root.json: root: malformed metadata", "it is fetched again")
	s.box.has("100", "100")
	good := s.mirror()
	s.box.configure(map[string]any{"mirrors": []string{s.bad.URL, good.URL}})
	s.box.must(0, "update").says("the disk damaged a file", "3.root.json", "installed: "+two)
	s.box.must(0, "status").says("root: version 3")
	s.box.clean()
}

// TestInitOverTornState: a box that can't repair itself, because its mirrors are gone, may be told of others.
func TestInitOverTornState(t *testing.T) {
	w := newWorld(t)
	gone := w.mirror()
	d := w.newDevice(nil, gone)
	w.newRoot(func(*trust.RootEdit) error { return nil })
	gone.sync(w)
	d.must(0, "check")
	gone.Close()
	d.write("S/metadata/2.root.json", nil)
	d.must(status.ExitUnavailable, "check").says("connection refused")
	m := w.mirror()
	d.must(0, "init", "--root", d.path("1.root.json"), m.URL)
	d.must(0, "check")
	d.must(0, "status").says("root: version 2")
}

// TestTurnedBits turns one bit in the middle, the beginning and the end of every file that a box has. It gets the next
// update in one run, and the run says which file it was, unless that is fetched in any case; or it is the configuration, which
// a person wrote.
func TestTurnedBits(t *testing.T) {
	testworld.Unraced(t)
	t.Parallel()
	w := newWorld(t)
	w.publish(trust.Conditions{}, map[string][]byte{one: w.pack(one, "")})
	m := w.mirror()
	base := w.newDevice(map[string]any{"state": "../S", "root": "root.json"}, m)
	w.newRoot(func(*trust.RootEdit) error { return nil })
	m.sync(w)
	base.must(0, "update")
	w.publish(trust.Conditions{}, map[string][]byte{two: w.pack(two, "")})
	m.sync(w)
	n := 0
	for _, file := range []string{
		"C/root.json", "S/box.json", "S/box.json.copy", "S/install/record.json", "S/install/record.json.copy",
		"S/metadata/ledger", "S/metadata/ledger.copy", "S/metadata/1.root.json", "S/metadata/2.root.json",
		"S/metadata/timestamp.json", "S/metadata/*.snapshot.json", "S/metadata/*.targets.json",
	} {
		paths, err := filepath.Glob(base.path(file))
		check(t, err)
		file = strings.TrimPrefix(paths[len(paths)-1], base.dir+"/")
		whole, err := os.ReadFile(base.path(file))
		check(t, err)
		for _, at := range []int{0, len(whole) / 2, len(whole) - 2} {
			n++
			t.Run(fmt.Sprintf("%s %d", file, at), func(t *testing.T) {
				t.Parallel()
				d := base.copied(t)
				bad := bytes.Clone(whole)
				bad[at] ^= 4
				check(t, os.WriteFile(d.path(file), bad, 0o600))
				a := d.must(0, "update")
				if got := d.installed(); got != "200" {
					t.Errorf("version %s is installed", got)
				}
				fetched := strings.Contains(file, "timestamp") || strings.Contains(file, "snapshot") || strings.Contains(file, "targets")
				name := strings.TrimSuffix(filepath.Base(file), ".copy")
				if !fetched && !strings.Contains(a.err, name) && !strings.Contains(a.err, "root 2") {
					t.Errorf("%s is not named: %s", name, a.err)
				}
				if file == "C/root.json" {
					a.says("cp " + d.path("S/metadata/1.root.json") + " " + d.path(file))
					return
				}
				if a := d.must(0, "update"); a.err != "" {
					t.Errorf("still says %s", a.err)
				}
			})
		}
	}
	t.Logf("%d bits", n)
}
