package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/cmd/internal/command"
	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

// damageWorld is a directory of keys K and a repository R, with a list that waits and a second root.
type damageWorld struct{ dir string }

// newDamageWorld makes it with keys that have no passphrase: to derive a key from one takes longer than all else.
func newDamageWorld(t *testing.T) *damageWorld {
	t.Helper()
	w := &damageWorld{t.TempDir()}
	if err := os.MkdirAll(filepath.Join(w.dir, "DIR"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.dir, "DIR", "install_update.sh"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, role := range keyRoles {
		if err := writeBareKey(filepath.Join(w.dir, "K"), role); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range []string{
		"build DIR -o p-1.tar.gz", "build DIR -o p-2.tar.gz", "init --yes", "add --yes p-1.tar.gz", "root renew --yes", "add --yes --hold p-2.tar.gz",
	} {
		w.must(t, args)
	}
	return w
}

// run runs boxsign in this process, on K and R, without syncing, and returns what it says.
func (w *damageWorld) run(t *testing.T, args string) (string, error) {
	t.Helper()
	list := strings.Fields(args)
	for i, a := range list {
		if strings.HasPrefix(a, "p-") || a == "DIR" {
			list[i] = filepath.Join(w.dir, a)
		}
	}
	env := map[string]string{"BOXSIGN_KEYS": filepath.Join(w.dir, "K"), "BOXSIGN_REPO": filepath.Join(w.dir, "R")}
	var said bytes.Buffer
	s := cli.Streams{In: strings.NewReader(""), Out: &said, Err: &said, Getenv: func(k string) string { return env[k] }, Now: time.Now}
	if list[0] == "init" {
		list = append(list, "--repo", env["BOXSIGN_REPO"])
	}
	s.Disk.Hook = func(op disk.Op, _ string) (bool, error) {
		return op != disk.OpSync && op != disk.OpSyncDir, nil
	}
	if code := command.Run(t.Context(), "boxsign", newRoot(s, 0), list, s); code != 0 {
		return said.String(), fmt.Errorf("boxsign %s: exit code %d: %s", args, code, &said)
	}
	return said.String(), nil
}

func (w *damageWorld) must(t *testing.T, args string) string {
	t.Helper()
	out, err := w.run(t, args)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// files returns the state files, as paths in the world: not the archives, which their digests name.
func (w *damageWorld) files(t *testing.T) (out []string) {
	t.Helper()
	err := filepath.WalkDir(w.dir, func(path string, e fs.DirEntry, err error) error {
		name, _ := filepath.Rel(w.dir, path)
		if err == nil && e.Type().IsRegular() && (strings.HasPrefix(name, "K/") || strings.HasPrefix(name, "R/")) &&
			!strings.HasPrefix(name, "R/sha256/") && !strings.HasPrefix(name, "R/targets/") {
			out = append(out, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// fresh links the world to another directory, but for the files that are to be damaged: those get that content.
func (w *damageWorld) fresh(t *testing.T, damaged map[string][]byte) *damageWorld {
	t.Helper()
	return &damageWorld{linked(t, w.dir, damaged)}
}

// private returns the files of private keys.
func (w *damageWorld) private(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	paths, err := filepath.Glob(filepath.Join(w.dir, "K", "*.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.Base(path)] = string(raw)
	}
	return out
}

// mends is what a message must have that tells of a damaged file: one of the commands that mend it.
var mends = []string{"boxsign restore", "boxsign renew", "--root ", "cp ", "curl -o ", "move it away"}

// told expects a message that names the file and a command that mends it.
func told(t *testing.T, when, path, said string) {
	t.Helper()
	if !strings.Contains(said, path) || !slices.ContainsFunc(mends, func(m string) bool { return strings.Contains(said, m) }) || strings.Contains(said, "boxsign init") {
		t.Errorf("%s: expected %s and a command that mends it, got\n%s", when, path, said)
	}
}

// TestDamagedBits turns bits of every file that boxsign keeps, one after another: a command works, and tells of the damage, or
// names the file and how to mend it. No file of a private key is written.
//
// A command that only reads meets more of them than one that writes. For the bits of one file of metadata after another see
// package trust; for all bits of keys see TestDamagedKeys of package signer.
func TestDamagedBits(t *testing.T) {
	w := newDamageWorld(t)
	files := w.files(t)
	if len(files) < 25 {
		t.Fatal(files)
	}
	reads, writes := 0, 0
	for _, name := range files {
		path := filepath.Join(w.dir, name)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		read, write := 0, 0 // the next bits
		for bit := range 8 * len(good) {
			bad := bytes.Clone(good)
			bad[bit/8] ^= 1 << (bit % 8)
			if bit == write {
				w.fresh(t, map[string][]byte{name: bad}).meets(t, name, bit, "add --yes p-2.tar.gz")
				write += 8*max(1, len(good)/2) + 1
				writes++
			}
			if bit == read {
				if err := os.WriteFile(path, bad, 0o600); err != nil {
					t.Fatal(err)
				}
				w.meets(t, name, bit, "status")
				read += 8*(len(good)/4) + 1
				reads++
			}
		}
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d bits of %d files were read, %d met a command that writes", reads, len(files), writes)
}

// meets runs a command on a world in which a bit of a file is turned.
func (w *damageWorld) meets(t *testing.T, name string, bit int, args string) {
	t.Helper()
	keys := w.private(t)
	when := fmt.Sprintf("%s, bit %d: %s", name, bit, args)
	out, err := w.run(t, args)
	if err != nil {
		told(t, when, filepath.Join(w.dir, name), out)
	} else if args == "status" {
		if !strings.Contains(out, "p-1.tar.gz") {
			t.Errorf("%s: expected the list, got\n%s", when, out)
		}
		if path := filepath.Join(w.dir, name); strings.HasPrefix(name, "R/staging/") && !strings.Contains(out, path) {
			t.Errorf("%s: expected %s, which nobody can publish, got\n%s", when, path, out)
		}
	}
	if !maps.Equal(keys, w.private(t)) {
		t.Errorf("%s: a private key was written", when)
	}
}

// TestDamagedTwice damages a file and its copy, or has no copy, as in what an earlier boxsign made: the message has a command
// that mends it.
func TestDamagedTwice(t *testing.T) {
	w := newDamageWorld(t)
	for _, name := range []string{
		"R/metadata/1.root.json", "R/metadata/2.root.json", "R/metadata/3.snapshot.json", "R/metadata/2.targets.json", "R/metadata/timestamp.json",
		"K/trusted/1.root.json", "K/trusted/2.root.json",
	} {
		raw, err := os.ReadFile(filepath.Join(w.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		raw[len(raw)/2] ^= 4
		v := w.fresh(t, map[string][]byte{name: raw, disk.CopyPath(name): nil})
		path := filepath.Join(v.dir, name)
		for _, args := range []string{"status", "renew --yes"} {
			out, err := v.run(t, args)
			if err == nil {
				t.Errorf("%s: %s: expected an error", name, args)
			}
			told(t, name+": "+args, path, out)
		}
		// And that command does.
		rest := ""
		switch {
		case strings.HasPrefix(name, "R/"):
			from := filepath.Join(v.dir, "K", "trusted", filepath.Base(name))
			if out, _ := v.run(t, "status"); !strings.Contains(out, "cp "+from+" "+path) {
				t.Errorf("%s: expected the file of the keys, got\n%s", name, out)
			}
			good, err := os.ReadFile(from)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, good, 0o600); err != nil {
				t.Fatal(err)
			}
		case name == "K/trusted/1.root.json":
			rest = " --root " + filepath.Join(v.dir, "R", "metadata", "1.root.json")
		default:
			rest = " --root " + filepath.Join(v.dir, "K", "trusted", "1.root.json")
		}
		v.must(t, "renew --yes"+rest)
		if out := v.must(t, "status"); strings.Contains(out, "damaged") {
			t.Errorf("%s: expected it to be mended, got\n%s", name, out)
		}
		if _, err := trust.Open(trust.Config{Dir: filepath.Dir(path), DeferRoots: true}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestInitOverCopies: where of a repository nothing but copies is left, nobody makes another one, and they stay.
func TestInitOverCopies(t *testing.T) {
	w := newDamageWorld(t)
	kept := 0
	for _, name := range w.files(t) {
		path := filepath.Join(w.dir, name)
		switch {
		case !strings.HasPrefix(name, "R/metadata/"):
		case strings.HasSuffix(name, disk.CopyPath("")):
			kept++
		default:
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.RemoveAll(filepath.Join(w.dir, "K", "trusted")); err != nil { // keys that know it refuse before
		t.Fatal(err)
	}
	out, err := w.run(t, "init --yes")
	if err == nil || !strings.Contains(out, "has a repository already") {
		t.Errorf("expected a refusal, got %v\n%s", err, out)
	}
	left := slices.DeleteFunc(w.files(t), func(f string) bool { return !strings.HasPrefix(f, "R/metadata/") })
	if len(left) != kept || kept < 4 {
		t.Errorf("%d copies were there, left are %q", kept, left)
	}
}

// TestLostRoot removes roots of a repository that the keys saw: a command says which one is missing, and does its work once what it
// says was done.
func TestLostRoot(t *testing.T) {
	w := newDamageWorld(t)
	kept, metadata := filepath.Join(w.dir, "K", "trusted"), filepath.Join(w.dir, "R", "metadata")
	for _, lost := range []string{"2.root.json", "*.root.json"} {
		gone, err := filepath.Glob(filepath.Join(metadata, lost))
		if err != nil || len(gone) == 0 {
			t.Fatal(gone, err)
		}
		for _, path := range gone {
			if err := errors.Join(os.Remove(path), os.Remove(disk.CopyPath(path))); err != nil {
				t.Fatal(err)
			}
		}
		mend := []string{"cp", filepath.Join(kept, lost), filepath.Join(metadata, lost)}
		if len(gone) > 1 {
			mend[2] = metadata
		}
		for _, args := range []string{"status", "renew --yes", "add --yes p-2.tar.gz"} {
			out, err := w.run(t, args)
			if err == nil || !strings.Contains(out, strings.Join(mend, " ")+"\n") {
				t.Errorf("%s without %s: expected an error and %q, got\n%s", args, lost, mend, out)
			}
		}
		if out, err := exec.Command("sh", "-c", strings.Join(mend, " ")).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", mend, err, out)
		}
		w.must(t, "renew --yes")
		if out := w.must(t, "status"); strings.Contains(out, "warning") {
			t.Errorf("expected it to be mended, got\n%s", out)
		}
	}
}

// TestLostRootsOfKeys: keys whose roots are all lost go on from the one that the message asks for.
func TestLostRootsOfKeys(t *testing.T) {
	w := newDamageWorld(t).fresh(t, nil)
	trusted := filepath.Join(w.dir, "K", "trusted")
	for _, name := range []string{"1.root.json", "2.root.json"} {
		if err := os.Remove(filepath.Join(trusted, name)); err != nil {
			t.Fatal(err)
		}
	}
	out, err := w.run(t, "renew --yes")
	if err == nil {
		t.Fatalf("expected an error, got\n%s", out)
	}
	told(t, "no root", trusted, out)
	w.must(t, "renew --yes --root "+filepath.Join(w.dir, "R", "metadata", "1.root.json"))
	w.must(t, "status")
}
