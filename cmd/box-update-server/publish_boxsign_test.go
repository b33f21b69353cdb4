package main_test

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/keys/secret"
)

// A person has some keys of a repository, and boxsign.
type person struct {
	t    *testing.T
	keys string // a directory
	root string // the root that was pinned when the repository was made
}

// person gives somebody these keys, unencrypted: to open an encrypted one takes a second.
func (s *signer) person(root, release *secret.Key) person {
	s.t.Helper()
	p := person{s.t, s.t.TempDir(), filepath.Join(s.dir, "metadata", "1.root.json")}
	for name, key := range map[string]*secret.Key{"root": root, "release": release} {
		if key == nil {
			continue
		}
		s.check(key.WriteUnencrypted(disk.FS{}, filepath.Join(p.keys, name+".pem")))
		s.check(os.WriteFile(filepath.Join(p.keys, name+".pub"), key.Public().PEM(), 0o644))
	}
	// As rotation finds it: the key that the origin signs with.
	s.check(s.online.WriteUnencrypted(disk.FS{}, filepath.Join(p.keys, "online.pem")))
	s.check(os.WriteFile(filepath.Join(p.keys, "online.pub"), s.online.Public().PEM(), 0o644))
	return p
}

// owner has the keys that the repository was made with.
func (s *signer) owner() person { return s.person(s.root, s.release) }

// boxsign is a command with these keys, without anybody to ask. The place is what comes last.
func (p person) boxsign(command string, args ...string) *exec.Cmd {
	words := append(strings.Fields(command), "--keys", p.keys, "--root", p.root, "--yes")
	return boxsign(append(words, args...)...)
}

func boxsign(args ...string) *exec.Cmd {
	cmd := exec.Command("boxsign", args...)
	cmd.Env = append(os.Environ(), "BOXSIGN_PASSPHRASE=mosaic-Tulip-93-harbor")
	return cmd
}

// must runs a command and returns what it says; the test fails with it.
func (p person) must(command string, args ...string) string {
	p.t.Helper()
	return succeed(p.t, p.boxsign(command, args...))
}

func succeed(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v\n%s", cmd.Args, err, out)
	}
	return string(out)
}

// refused runs a command that has to fail with status 1 and to say all these texts.
func (p person) refused(command string, args []string, texts ...string) {
	p.t.Helper()
	fails(p.t, "", p.boxsign(command, args...).Args[1:], texts...)
}

// says fails the test unless an output has all these texts.
func says(t *testing.T, out string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(out, text) {
			t.Errorf("no %q in:\n%s", text, out)
		}
	}
}

// A run is a command in the background.
type run struct {
	cmd  *exec.Cmd
	out  *logged
	done chan struct{}
	err  error // of Wait; read after done is closed
}

// begin starts a command; it is killed when the test ends.
func begin(t *testing.T, cmd *exec.Cmd) *run {
	t.Helper()
	r := &run{cmd: cmd, out: &logged{}, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = r.out, r.out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		r.err = cmd.Wait()
		close(r.done)
	}()
	t.Cleanup(r.kill)
	return r
}

// kill ends the process at once, if it has not ended.
func (r *run) kill() {
	_ = r.cmd.Process.Kill() // fails where it has ended
	<-r.done
}

// ends waits for success and returns what was said.
func (r *run) ends(t *testing.T) string {
	t.Helper()
	testworld.Await(t, strings.Join(r.cmd.Args, " "), func() bool {
		select {
		case <-r.done:
			return true
		default:
			return false
		}
	})
	if r.err != nil {
		t.Errorf("%q: %v\n%s", r.cmd.Args, r.err, r.out)
	}
	return r.out.String()
}

// packRandom makes a proper archive of nearly this size that does not compress.
func packRandom(t *testing.T, dir string, version, size int) (path string) {
	t.Helper()
	path = filepath.Join(dir, name(version, "tar.gz"))
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(packInto(file, version, int64(size)), file.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

func packInto(w io.Writer, version int, size int64) error {
	z, err := gzip.NewWriterLevel(w, gzip.NoCompression)
	if err != nil {
		return err
	}
	top := fmt.Sprintf("opq-box-update-%d/", version)
	archive := tar.NewWriter(z)
	number := fmt.Sprintln(version)
	for _, f := range []struct {
		name    string
		mode    int64
		size    int64
		content io.Reader
	}{
		{"VERSION", 0o644, int64(len(number)), strings.NewReader(number)},
		{"install_update.sh", 0o755, 10, strings.NewReader("#!/bin/sh\n")},
		{"firmware", 0o644, size, rand.NewChaCha8([32]byte{byte(version), byte(size)})},
	} {
		err := archive.WriteHeader(&tar.Header{Name: top + f.name, Mode: f.mode, Size: f.size})
		if err != nil {
			return err
		}
		if _, err := io.CopyN(archive, f.content, f.size); err != nil {
			return err
		}
	}
	return errors.Join(archive.Close(), z.Close())
}

// blocksTaken returns the paths of the blocks of which a server said that it has them, or parts of them, by
// its log of requests.
func (s *server) blocksTaken() map[string]int {
	taken := map[string]int{}
	put := regexp.MustCompile(`(?m)^.*method=PUT .*path=(/publish/[0-9a-f]{64}/[0-9a-f]{64}/[0-9]+)(?:/[0-9]+)? .*status=204`)
	for _, m := range put.FindAllStringSubmatch(s.log.String(), -1) {
		taken[m[1]]++
	}
	return taken
}

// lists fails the test unless exactly these names are served, and verify-repo finds all in order.
func (p person) lists(base string, names ...string) {
	p.t.Helper()
	get(p.t, base+"/ls").is(p.t, 200, "text/plain", strings.Join(names, "\n"))
	says(p.t, succeed(p.t, boxsign("verify-repo", "--root", p.root, base)), fmt.Sprintf("archives verified: %d\n", len(names)))
}

// tamper changes the last byte of a file.
func tamper(t *testing.T, path string) {
	t.Helper()
	b := read(t, path)
	b[len(b)-1] ^= 1
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}
