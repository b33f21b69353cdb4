package main

import (
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/update"
	"github.com/openpowerquality/box-update-server/update/archive"
)

// measureBox measures what a box does: look for an update, verify, unpack and install it.
func measureBox(b *bench) {
	b.measureUnpack("tar.zst", "--zstd")
	b.measureUnpack("tar.bz2", "-j")
	s := b.signer()
	boxup := b.build("boxup")
	s.add(b.archives(listed-1, kB).files()...)
	size := b.gigabyte()
	tree := b.newDir("tree")
	b.writeRandom(filepath.Join(tree, "data"), rand.Reader, size)
	s.add(b.buildUpdate(tree, "opq-box-update-1999999999.tar.zst"))
	server := b.serve(nil, s.serving()...)

	dir := b.newDir("box")
	box := []string{"--config", filepath.Join(dir, "config.json"), "--state", filepath.Join(dir, "state")}
	root, err := os.ReadFile(s.root)
	b.check(err)
	b.seconds(boxup, append([]string{"init", "--root", s.root, "--root-fingerprint", update.Sum(root).String(), server.url("")}, box...)...)
	b.add(figure{what: fmt.Sprintf("memory, install an update of %d MB", size/mB), unit: "MB", command: "boxup update",
		ours: sample{b.peak(boxup, append([]string{"update"}, box...)...)}, goal: goal{valueAtMost, 48}})
	b.alone(figure{what: "check with nothing new, 2,000 updates, processor time", unit: "ms", command: "boxup check",
		goal: goal{valueAtMost, 30}}, func() float64 {
		cmd := exec.CommandContext(b.ctx, boxup, append([]string{"check"}, box...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			b.fatalf("boxup check: %w: %s", err, out)
		}
		return float64(cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime()) / float64(time.Millisecond)
	})
}

// measureUnpack compares verifying and unpacking an update that holds the Go tree with openssl and tar.
func (b *bench) measureUnpack(format, tarFlag string) {
	goroot, err := exec.CommandContext(b.ctx, "go", "env", "GOROOT").Output()
	b.check(err)
	tree := b.newDir("tree")
	for _, part := range []string{"src", "pkg", "bin"} {
		b.seconds("cp", "-rL", filepath.Join(strings.TrimSpace(string(goroot)), part), tree)
	}
	file := b.buildUpdate(tree, "opq-box-update-1."+format)
	info, err := os.Stat(file)
	b.check(err)
	f := figure{what: fmt.Sprintf("verify and unpack %d MB of %s", info.Size()/mB, format), unit: "s",
		command: "openssl dgst -sha256 ARCHIVE && tar " + tarFlag + " -xf ARCHIVE", against: "openssl, tar", goal: goal{ratioAtMost, 1}}
	// The end of the family removes what is unpacked: see measureCopies.
	ours := func() float64 {
		dir := b.newDir("unpacked")
		begin := time.Now()
		b.unpack(file, dir)
		return time.Since(begin).Seconds()
	}
	theirs := func() float64 {
		return b.seconds("openssl", "dgst", "-sha256", file) + b.seconds("tar", tarFlag, "-C", b.newDir("unpacked"), "-xf", file)
	}
	b.add(b.pair(f, ours, theirs))
}

// buildUpdate makes the files of a directory an update, with a script that does nothing, and returns its path.
func (b *bench) buildUpdate(tree, name string) string {
	b.check(os.WriteFile(filepath.Join(tree, archive.InstallScript), []byte("#!/bin/sh\n"), 0o755))
	src, err := os.OpenRoot(tree)
	b.check(err)
	defer src.Close() // opened for reading
	parsed, err := update.ParseName(name)
	b.check(err)
	f, err := os.Create(filepath.Join(b.newDir("update"), name))
	b.check(err)
	b.check(archive.Build(b.ctx, f, src, archive.Options{Name: parsed}))
	b.check(f.Close())
	return f.Name()
}

// unpack hashes an update and unpacks it into dir.
func (b *bench) unpack(file, dir string) {
	f, err := os.Open(file)
	b.check(err)
	defer f.Close() // opened for reading
	var h update.Hasher
	_, err = io.CopyBuffer(&h, struct{ io.Reader }{f}, make([]byte, 256*kB))
	b.check(err)
	_, err = f.Seek(0, io.SeekStart)
	b.check(err)
	name, err := update.ParseName(filepath.Base(file))
	b.check(err)
	root, err := os.OpenRoot(dir)
	b.check(err)
	defer root.Close() // all was written
	_, err = archive.Unpack(b.ctx, f, name, root, archive.UnpackOptions{})
	b.check(err)
}
