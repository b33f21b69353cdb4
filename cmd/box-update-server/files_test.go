package main_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// name returns the name of an update.
func name(version int, format string) string {
	return fmt.Sprintf("opq-box-update-%d.%s", version, format)
}

// dropped returns a directory of files with arbitrary bytes that have been still for long.
func dropped(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // for a server that runs as nobody
		t.Fatal(err)
	}
	for _, n := range names {
		still(t, write(t, dir, n, body(n)))
	}
	return dir
}

// body returns bytes of its own for each name, a few kilobytes.
func body(name string) []byte {
	return bytes.Repeat([]byte(name+"\n"), 100)
}

// write puts a file in place the way rsync does: under another name first.
func write(t *testing.T, dir, name string, b []byte) (path string) {
	t.Helper()
	path = filepath.Join(dir, name)
	temp := filepath.Join(dir, ".partial")
	if err := os.WriteFile(temp, b, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(temp, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// still makes a file look as if nobody has written to it for an hour.
func still(t *testing.T, path string) string {
	t.Helper()
	hourAgo := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, hourAgo, hourAgo); err != nil {
		t.Fatal(err)
	}
	return path
}

// sparse makes a file of zeroes that takes no space.
func sparse(t *testing.T, dir, name string, size int64) {
	t.Helper()
	path := write(t, dir, name, nil)
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	still(t, path)
}

// pattern returns bytes that differ at each place where a part could be cut or shifted.
func pattern(size int) []byte {
	b := make([]byte, 0, size+sha256.Size)
	for i := 0; len(b) < size; i++ {
		h := sha256.Sum256(fmt.Append(nil, i))
		b = append(b, h[:]...)
	}
	return b[:size]
}

func digest(b []byte) string {
	d := sha256.Sum256(b)
	return hex.EncodeToString(d[:])
}

// pack makes an archive with real tar: files, mode by mode, in the top directory of the update.
func pack(t *testing.T, dir, name string, files map[string]os.FileMode) {
	t.Helper()
	work := t.TempDir()
	top := name[:strings.Index(name, ".")]
	for file, mode := range files {
		path := filepath.Join(work, top, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		content := "#!/bin/sh\nexit 0\n"
		if strings.EqualFold(file, "version") {
			content = strings.TrimPrefix(top, "opq-box-update-") + "\n"
		}
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(dir, name)
	command(t, work, need(t, "tar", "tar"), "--auto-compress", "-cf", out, top)
	still(t, out)
}

// proper are the files of an update that a box can install.
func proper() map[string]os.FileMode {
	return map[string]os.FileMode{"VERSION": 0o644, "install_update.sh": 0o755, "files/box.py": 0o644}
}

// command runs a program in a directory and returns its output; the test fails with it.
func command(t *testing.T, dir, prog string, args ...string) string {
	t.Helper()
	out, err := attempt(dir, prog, args...)
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", prog, args, err, out)
	}
	return out
}

// attempt runs a program in a directory and returns its output.
func attempt(dir, prog string, args ...string) (string, error) {
	cmd := exec.Command(prog, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// read returns what a file holds.
func read(t *testing.T, path ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// clutter adds what may lie in such a directory and is no update to serve: each would be the newest.
func clutter(t *testing.T, dir string) {
	t.Helper()
	for _, n := range []string{
		"opq-box-update-latest.tar.bz2", "opq-box-update-.tar.bz2", "opq-box-update-09999999999.tar.bz2",
		"opq-box-update--9999999999.tar.bz2", "opq-box-update-9999999999.tar.xz", "opq-box-update-9999999999.tar.bz2.part",
		"Opq-box-update-9999999999.tar.bz2", "other-box-update-9999999999.tar.bz2",
		".opq-box-update-9999999999.tar.bz2", ".hidden", "README.md",
	} {
		still(t, write(t, dir, n, body(n)))
	}
	outside := write(t, t.TempDir(), "outside", []byte("secret"))
	for _, err := range []error{
		os.Symlink(outside, filepath.Join(dir, "opq-box-update-7777777777.tar.bz2")),
		os.Symlink(name(1547861057, "tar.bz2"), filepath.Join(dir, "opq-box-update-7777777778.tar.bz2")),
		syscall.Mkfifo(filepath.Join(dir, "opq-box-update-8888888888.tar.bz2"), 0o644),
		os.Mkdir(filepath.Join(dir, "opq-box-update-9999999999.tar.bz2"), 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// fleet returns a directory such as a site has it, with clutter: oldest name last in the alphabet.
func fleet(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, n := range []string{
		name(999999999, "tar.bz2"), name(1547861057, "tar.bz2"),
		newest, name(1550190683, "tar.gz"), name(1550190683, "tar.zst"),
	} {
		pack(t, dir, n, proper())
	}
	clutter(t, dir)
	return dir
}

// What fleet holds, in the order of /ls.
const (
	newest  = "opq-box-update-1550190683.tar.bz2"
	listing = "opq-box-update-999999999.tar.bz2\nopq-box-update-1547861057.tar.bz2\n" +
		"opq-box-update-1550190683.tar.zst\nopq-box-update-1550190683.tar.gz\n" + newest
)
