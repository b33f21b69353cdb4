package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/cmd/internal/command"
	"github.com/openpowerquality/box-update-server/internal/box"
	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

func (d *device) fresh(w *world) string {
	d.t.Helper()
	d.write("1.root.json", w.files["metadata/1.root.json"])
	return update.Sum(w.files["metadata/1.root.json"]).String()
}

// configured returns the configuration as it is written.
func (d *device) configured() (c map[string]any) {
	d.t.Helper()
	b, err := os.ReadFile(d.path("C/config.json"))
	check(d.t, err)
	check(d.t, json.Unmarshal(b, &c))
	return c
}

func TestInit(t *testing.T) {
	w := newWorld(t)
	d := w.bare()
	fingerprint := d.fresh(w)
	root := d.path("1.root.json")
	d.must(0, "init", "--root", root, "--root-fingerprint", fingerprint, "--state", d.path("S"), "--product", "p", "--hardware", "rev-a", "http://a.example", "http://b.example").
		says("root: version 1, expires 2027-03-01T12:00:00Z\n", "fingerprint: "+fingerprint+"\n", "mirror: http://a.example\nmirror: http://b.example\n", "state: "+d.path("S")+"\n")
	c := d.configured()
	if c["product"] != "p" || c["hardware"] != "rev-a" || c["state"] != d.path("S") || c["root"] != d.path("C/root.json") || fmt.Sprint(c["mirrors"]) != "[http://a.example http://b.example]" {
		t.Errorf("got %+v", c)
	}
	if got, err := os.ReadFile(d.path("C/root.json")); err != nil || !bytes.Equal(got, w.files["metadata/1.root.json"]) {
		t.Errorf("the copy of the root differs, %v", err)
	}

	// Said again it changes the mirrors, and nobody has to be asked.
	d.configure(map[string]any{"window": "02:00-04:00"})
	d.must(0, "init", "--root", root, "http://c.example").says("state: " + d.path("S"))
	c = d.configured()
	if fmt.Sprint(c["mirrors"]) != "[http://c.example]" || c["window"] != "02:00-04:00" || c["product"] != "p" || c["state"] != d.path("S") {
		t.Errorf("got %+v", c)
	}
}

// TestInitKeepsPasswords: they come from where others don't see them, lie where others can't read them, and are
// not shown.
func TestInitKeepsPasswords(t *testing.T) {
	w := newWorld(t)
	d := w.bare()
	fingerprint := d.fresh(w)
	d.write("mirrors", []byte("http://box:geheim@a.example\nhttp://b.example\n"))
	args := []string{"init", "--root", d.path("1.root.json"), "--root-fingerprint", fingerprint, "--state", d.path("S")}
	for _, a := range []answer{d.must(0, append(args, "@"+d.path("mirrors"))...), d.must(0, append(args, "--json", "@"+d.path("mirrors"))...)} {
		if a.says("http://***@a.example", "http://b.example"); strings.Contains(a.out+a.err, "geheim") {
			t.Errorf("the password is shown:\n%s%s", a.out, a.err)
		}
	}
	c := d.configured()
	if fmt.Sprint(c["mirrors"]) != "[http://box:geheim@a.example http://b.example]" {
		t.Errorf("got %+v", c)
	}
	if info, err := os.Stat(d.path("C/config.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	a := d.boxup("init", "--root", d.path("1.root.json"), "--root-fingerprint", fingerprint, "http://box:ge/heim@a.example")
	if a.code != 2 || strings.Contains(a.out+a.err, "heim") {
		t.Errorf("%d, %s%s", a.code, a.out, a.err)
	}
}

// TestInitRefusals: each leaves nothing behind, or what was there.
func TestInitRefusals(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]struct {
		args []string
		code int
		text string
	}{
		"nobody to ask":         {[]string{"--root", "ROOT", "http://a"}, cliFailed, "not confirmed: root 1 has fingerprint FINGERPRINT, and there is no terminal to ask on"},
		"another fingerprint":   {[]string{"--root", "ROOT", "--root-fingerprint", strings.Repeat("0", 64), "http://a"}, status.ExitRefused, "expected fingerprint 0000000000000000000000000000000000000000000000000000000000000000, got FINGERPRINT"},
		"half a fingerprint":    {[]string{"--root", "ROOT", "--root-fingerprint", "00", "http://a"}, 2, "--root-fingerprint"},
		"no root":               {[]string{"http://a"}, 2, "--root is needed"},
		"a root that isn't":     {[]string{"--root", "TIMESTAMP", "--root-fingerprint", strings.Repeat("0", 64), "http://a"}, status.ExitRefused, "malformed metadata"},
		"a root that is absent": {[]string{"--root", "ABSENT", "http://a"}, cliFailed, "no such file"},
		"no mirror":             {[]string{"--root", "ROOT"}, 2, "expected --root FILE URL…, got nothing"},
		"a mirror that isn't":   {[]string{"--root", "ROOT", "--root-fingerprint", "FINGERPRINT", "a.example"}, 2, "mirrors: expected a list"},
		"a mirror twice":        {[]string{"--root", "ROOT", "--root-fingerprint", "FINGERPRINT", "http://a", "http://a"}, 2, "is there twice"},
		"a bad product":         {[]string{"--root", "ROOT", "--root-fingerprint", "FINGERPRINT", "--product", "P", "http://a"}, 2, "product: expected"},
	} {
		t.Run(name, func(t *testing.T) {
			d := w.bare()
			d.t = t
			fingerprint := d.fresh(w)
			d.write("timestamp.json", w.files["metadata/timestamp.json"])
			words := strings.NewReplacer("ROOT", d.path("1.root.json"), "TIMESTAMP", d.path("timestamp.json"), "ABSENT", d.path("absent"), "FINGERPRINT", fingerprint)
			args := []string{"init", "--state", d.path("S")}
			for _, a := range c.args {
				args = append(args, words.Replace(a))
			}
			d.must(c.code, args...).says(words.Replace(c.text))
			for _, path := range []string{"C", "S"} {
				if _, err := os.Stat(d.path(path)); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s was made: %v", path, err)
				}
			}
		})
	}
}

// TestInitKeepsComments: comments of a configuration that init writes anew are kept beside it, and one that stays is left
// as it is.
func TestInitKeepsComments(t *testing.T) {
	w := newWorld(t)
	d := w.newDevice(nil, w.mirror())
	root := d.path("1.root.json")
	fingerprint := d.fresh(w)
	again := func(mirror string) string {
		return d.must(0, "init", "--root", root, "--root-fingerprint", fingerprint, mirror).out
	}
	again("http://a.example")
	plain, err := os.ReadFile(d.path("C/config.json"))
	check(t, err)
	commented := append([]byte("// of box 7\n"), plain...)
	d.write("C/config.json", commented)
	said := again("http://a.example")
	if got, err := os.ReadFile(d.path("C/config.json")); err != nil || !bytes.Equal(got, commented) || strings.Contains(said, "note:") {
		t.Errorf("got %s, %v: %s", got, err, said)
	}
	if said, want := again("http://b.example"), "in "+d.path("C/config.json.old")+"\n"; !strings.Contains(said, want) {
		t.Errorf("expected %q, got %s", want, said)
	}
	if got, err := os.ReadFile(d.path("C/config.json.old")); err != nil || !bytes.Equal(got, commented) {
		t.Errorf("got %s, %v", got, err)
	}
	if got := d.configured()["mirrors"]; fmt.Sprint(got) != "[http://b.example]" {
		t.Errorf("mirrors: %v", got)
	}
	check(t, os.Remove(d.path("C/config.json.old")))
	again("http://c.example")
	if _, err := os.Stat(d.path("C/config.json.old")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a configuration without comments is kept: %v", err)
	}
}

// TestExample: a box that was initialised can have the example, as it is installed, for its configuration.
func TestExample(t *testing.T) {
	w := newWorld(t)
	d := w.newDevice(nil, w.mirror())
	text, err := os.ReadFile(filepath.Join("..", "..", "packaging", "examples", "boxup.json"))
	check(t, err)
	d.write("C/config.json", text)
	a := d.must(0, "status", "--state", d.path("S")).says("mirror: http://mirror.example", "mirror: http://updates.example")
	if a.err != "" {
		t.Error(a.err)
	}
}

// TestAnotherRoot: a box does not change whom it trusts unless it is told to.
func TestAnotherRoot(t *testing.T) {
	w := newWorld(t)
	w.publish(trust.Conditions{}, map[string][]byte{one: w.pack(one, "")})
	d := w.newDevice(nil, w.mirror())
	d.must(0, "update")
	other := newWorldOf(t, start, testworld.NewSigner("root 2"), testworld.NewSigner("release 2"), testworld.NewSigner("online 2"))
	other.publish(trust.Conditions{}, map[string][]byte{two: other.pack(two, "")})
	m := other.mirror()
	before, err := os.ReadFile(d.path("C/config.json"))
	check(t, err)
	fingerprint := d.fresh(other)
	again := []string{"init", "--root", d.path("1.root.json"), "--root-fingerprint", fingerprint, m.URL}
	d.must(status.ExitRefused, again...).says("this box trusts another root", "hint: to trust the new one from now on, add --replace-root")
	check(t, os.Remove(d.path("C/root.json"))) // the metadata still know
	d.must(status.ExitRefused, again...).says("this box trusts another root")
	if after, err := os.ReadFile(d.path("C/config.json")); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the configuration was changed: %s, %v", after, err)
	}
	d.write("C/root.json", other.files["metadata/1.root.json"])
	d.must(status.ExitRefused, "check").says("two different files for one version", "hint: to trust another root")
	d.must(0, append(again, "--replace-root")...)
	d.must(0, "update").says("installed: " + two)
	d.has("200", "100 200")
}

// TestInitAsks answers the question on a terminal.
func TestInitAsks(t *testing.T) {
	for answer, code := range map[string]int{"y\n": 0, "yes\n": 0, "n\n": 1, "\n": 1, "\x04": 1} {
		t.Run(fmt.Sprintf("%q", answer), func(t *testing.T) {
			w := newWorld(t)
			d := w.bare()
			fingerprint := d.fresh(w)
			screen, tty := testworld.NewTerminal(t, 80)
			var out, errs bytes.Buffer
			p := program{
				streams: cli.Streams{In: tty, Out: &out, Err: &errs, Getenv: func(string) string { return "" }, Now: func() time.Time { return start }},
				box:     box.Box{Random: func() float64 { return 0 }, MachineIDFile: d.machine},
			}
			_, err := screen.WriteString(answer)
			check(t, err)
			got := command.Run(context.Background(), "boxup", newRoot(&p), []string{"init", "--config", d.path("C/config.json"), "--state", d.path("S"), "--root", d.path("1.root.json"), "http://a"}, p.streams)
			if got != code || !strings.Contains(errs.String(), "fingerprint: "+fingerprint+"\nIs this the fingerprint that the signers of the updates gave you? [y/N]") {
				t.Errorf("expected code %d, got %d\n%s%s", code, got, &out, &errs)
			}
			if _, err := os.Stat(d.path("C/config.json")); (err == nil) != (code == 0) {
				t.Errorf("configuration: %v", err)
			}
		})
	}
}

// TestNewerRootOfTheSame: a box that followed the root to a newer one may be given that one.
func TestNewerRootOfTheSame(t *testing.T) {
	w := newWorld(t)
	m := w.mirror()
	d := w.newDevice(nil, m)
	w.newRoot(func(*trust.RootEdit) error { return nil })
	m.sync(w)
	d.must(0, "check")
	d.must(0, "status").says("root: version 2")
	d.write("2.root.json", w.files["metadata/2.root.json"])
	d.must(status.ExitRefused, "init", "--root", d.path("2.root.json"), "--root-fingerprint", update.Sum(w.files["metadata/2.root.json"]).String(), m.URL).says("another root")
	d.must(0, "init", "--replace-root", "--root", d.path("2.root.json"), "--root-fingerprint", update.Sum(w.files["metadata/2.root.json"]).String(), m.URL)
	d.must(0, "check")
}

func TestVersionAndHelp(t *testing.T) {
	w := newWorld(t)
	d := w.bare()
	d.built = start
	d.must(0, "version").says("version: unknown\n", "built: 2026-03-01T12:00:00Z\n", "platform: linux/")
	d.must(0, "version", "--json").says(`"built": "2026-03-01T12:00:00Z"`)
	d.must(0, "--help").says("Exit codes:\n   0  done, or up to date\n   1  failed\n   2  usage\n", "10  (check only) an update is available", "/etc/boxup/config.json", "/var/lib/boxup")
	for _, command := range []string{"init", "check", "fetch", "verify", "install", "update", "status"} {
		d.must(0, command, "--help").says("--json", "--config FILE", "--state DIR")
	}
	d.must(2, "upgrade").says(`unknown command "upgrade"`)
}

func TestJSON(t *testing.T) {
	w := newWorld(t)
	later := &trust.Rollout{Steps: []trust.Step{{After: time.Hour, Percent: 100}}}
	w.publish(trust.Conditions{}, map[string][]byte{one: w.pack(one, "")})
	w.publish(trust.Conditions{Rollout: later}, map[string][]byte{two: w.pack(two, "")})
	d := w.newDevice(nil, w.mirror())
	d.must(status.ExitAvailable, "check", "--json").says(`"installed": null`, `"update": "`+one+`"`, `"held": [`, `"hold": "rollout"`, `"next": "2026-03-01T13:00:00Z"`, `"expires": "2026-03-08T12:00:00Z"`)
	d.must(0, "fetch", "--json").says(`"name": "`+one+`"`, `"path": "`+d.path("S/sha256/"))
	d.must(0, "update", "--json").says(`"installed": [`, `"name": "`+one+`"`, `"status": {`, `"held": [`)
	d.must(0, "install", "--json").says(`"installed": null`)
	d.must(0, "status", "--json").says(`"boxup": "unknown"`, `"machine_id": "0000`, `"fingerprint": "`, `"known": {`, `"mirrors": [`)
}

func TestNoConfig(t *testing.T) {
	w := newWorld(t)
	d := w.bare()
	d.must(cliFailed, "check").says(d.path("C/config.json"), "hint: set the root and the mirrors of this box with boxup init")
	d.write("C/config.json", []byte(`{"state":"../S"}`))
	d.must(cliFailed, "update").says("expected mirrors and root", "hint: boxup init writes them")
	d.write("C/config.json", []byte(`{"state":"../S","color":"red"}`))
	d.must(cliFailed, "status").says(d.path("C/config.json")+": expected one of", `got "color"`)
	d.write("C/config.json", bytes.Repeat([]byte(" "), 64<<10+1))
	d.must(cliFailed, "status").says("expected at most 65536 bytes")
	if _, err := os.Stat(d.path("S")); err == nil {
		t.Error("a state directory was made")
	}
}
