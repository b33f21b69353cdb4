package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
)

// recipe is the check that the manual prints, for an update U and a public key K.
const recipe = `sha256sum "$U" > "$L" && openssl pkeyutl -verify -pubin -inkey "$K" -rawin -in "$L" -sigfile "$U.sig"`

// opensslCheck runs the recipe where a box would, beside the archive.
func opensslCheck(ts *testscript.TestScript, neg bool, args []string) {
	cmd := exec.Command("sh", "-c", recipe)
	cmd.Dir = filepath.Dir(ts.MkAbs(args[0]))
	cmd.Env = append(os.Environ(), "U="+filepath.Base(args[0]), "K="+ts.MkAbs(args[1]), "L="+filepath.Join(ts.Getenv("TMPDIR"), "line"))
	out, err := cmd.CombinedOutput()
	verified := strings.Contains(string(out), "Signature Verified Successfully")
	if (err == nil) != verified {
		ts.Fatalf("openssl: %v, but it says %q", err, out)
	}
	if verified == neg {
		ts.Fatalf("openssl says %q", out)
	}
}

// flip copies a file with one bit of its middle changed.
func flip(ts *testscript.TestScript, _ bool, args []string) {
	data, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	data[len(data)/2] ^= 1
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), data, 0o644))
}

// condition is "mount" where this user may mount a disk.
func condition(name string) (bool, error) {
	if name != "mount" {
		return false, fmt.Errorf("unknown condition %q", name)
	}
	dir, err := os.MkdirTemp("", "mount-")
	if err != nil {
		return false, err
	}
	mounted := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k") == nil
	if mounted {
		err = syscall.Unmount(dir, 0)
	}
	return mounted, errors.Join(err, os.Remove(dir))
}

// smallDisk mounts a disk of the given size.
func smallDisk(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	ts.Check(syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+args[1]))
	ts.Defer(func() { ts.Check(syscall.Unmount(dir, 0)) })
}

// fill writes to a disk until it is full.
func fill(ts *testscript.TestScript, _ bool, args []string) {
	f, err := os.Create(filepath.Join(ts.MkAbs(args[0]), "fill"))
	ts.Check(err)
	defer f.Close()
	for {
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			return
		}
	}
}
