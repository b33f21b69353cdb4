package main

import (
	"context"
	"crypto/rand"
	"errors"
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
func measureBox(ctx context.Context, l *lab) error {
	for _, f := range []struct {
		format string
		tar    []string
	}{{"tar.zst", []string{"--zstd"}}, {"tar.bz2", []string{"-j"}}} {
		if err := l.unpackTree(ctx, f.format, f.tar); err != nil {
			return err
		}
	}
	return l.boxup(ctx)
}

// unpackTree compares verifying and unpacking an update that holds the Go tree with openssl and tar.
func (l *lab) unpackTree(ctx context.Context, format string, tar []string) error {
	file, name, err := l.treeUpdate(ctx, format)
	if err != nil {
		return err
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	f := figure{
		family:  "box",
		what:    fmt.Sprintf("verify and unpack %d MB of %s", info.Size()/mB, format),
		unit:    "s",
		command: "openssl dgst -sha256 ARCHIVE && tar " + strings.Join(tar, " ") + " -xf ARCHIVE",
		against: "openssl, tar",
		goal:    goal{ratioAtMost, 1},
	}
	ours := l.unpacking(func(_ context.Context, dir string) error { return unpack(ctx, file, name, dir) })
	theirs := l.unpacking(func(ctx context.Context, dir string) error {
		_, hashErr := timed(ctx, "openssl", "dgst", "-sha256", file)
		_, tarErr := timed(ctx, "tar", append(tar, "-C", dir, "-xf", file)...)
		return errors.Join(hashErr, tarErr)
	})
	if err := l.run(ctx, &f, ours, theirs); err != nil {
		return err
	}
	l.add(f)
	return nil
}

// treeUpdate builds an update with the Go tree in it and returns its path.
func (l *lab) treeUpdate(ctx context.Context, format string) (path string, name update.Name, err error) {
	dir, err := l.folder("tree-" + format)
	if err != nil {
		return "", update.Name{}, err
	}
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", update.Name{}, fmt.Errorf("go env: %w", err)
	}
	tree := filepath.Join(dir, "tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return "", update.Name{}, err
	}
	for _, part := range []string{"src", "pkg", "bin"} {
		if _, err := timed(ctx, "cp", "-rL", filepath.Join(strings.TrimSpace(string(root)), part), tree); err != nil {
			return "", update.Name{}, err
		}
	}
	if name, err = update.ParseName("opq-box-update-1." + format); err != nil {
		return "", update.Name{}, err
	}
	path = filepath.Join(dir, name.String())
	return path, name, buildUpdate(ctx, tree, path, name)
}

// buildUpdate makes the files of a directory an update, with a script that does nothing.
func buildUpdate(ctx context.Context, tree, path string, name update.Name) (err error) {
	if err := os.WriteFile(filepath.Join(tree, archive.InstallScript), []byte("#!/bin/sh\n"), 0o755); err != nil {
		return err
	}
	src, err := os.OpenRoot(tree)
	if err != nil {
		return err
	}
	defer src.Close() // opened for reading
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return archive.Build(ctx, f, src, archive.Options{Name: name})
}

// unpacking returns a side that unpacks into a new directory.
func (l *lab) unpacking(unpack func(ctx context.Context, dir string) error) side {
	return func(ctx context.Context) (float64, error) {
		dir, err := os.MkdirTemp(l.dir, "unpacked-*")
		if err != nil {
			return 0, err
		}
		// The end of the run removes it: see fewFiles.
		begin := time.Now()
		err = unpack(ctx, dir)
		return time.Since(begin).Seconds(), err
	}
}

func unpack(ctx context.Context, file string, name update.Name, dir string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close() // opened for reading
	var h update.Hasher
	if _, err := io.CopyBuffer(&h, struct{ io.Reader }{f}, make([]byte, 256<<10)); err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close() // all was written
	_, err = archive.Unpack(ctx, f, name, root, archive.UnpackOptions{})
	return err
}

// boxup measures the command: a check with nothing new, and the memory that a big update takes.
func (l *lab) boxup(ctx context.Context) error {
	s, err := l.signer(ctx, "box")
	if err != nil {
		return err
	}
	program, err := l.build(ctx, "boxup")
	if err != nil {
		return err
	}
	data, err := l.archives("box-archives", listed-1, kB)
	if err != nil {
		return err
	}
	defer data.remove()
	if _, err := s.add(ctx, data.files()...); err != nil {
		return err
	}
	size := l.gigabyte()
	big, err := l.bigUpdate(ctx, size)
	if err != nil {
		return err
	}
	if _, err := s.add(ctx, big); err != nil {
		return err
	}
	server, err := l.serve(ctx, "", nil, s.serving()...)
	if err != nil {
		return err
	}
	defer server.stop()
	dir, err := l.folder("box-home")
	if err != nil {
		return err
	}
	box := []string{"--config", filepath.Join(dir, "config.json"), "--state", filepath.Join(dir, "state")}
	digest, err := digestOf(s.root())
	if err != nil {
		return err
	}
	if _, err := timed(ctx, program, append([]string{"init", "--root", s.root(), "--root-fingerprint", digest, server.url("")}, box...)...); err != nil {
		return err
	}
	peak, err := l.peak(ctx, program, append([]string{"update"}, box...)...)
	if err != nil {
		return err
	}
	l.add(figure{family: "box", what: fmt.Sprintf("memory, install an update of %d MB", size/mB), unit: "MB", command: "boxup update",
		ours: sample{peak}, goal: goal{valueAtMost, 48}})
	return l.alone(ctx, figure{family: "box", what: "check with nothing new, 2,000 updates, processor time", unit: "ms", command: "boxup check",
		goal: goal{valueAtMost, 30}}, func(ctx context.Context) (float64, error) {
		cmd := exec.CommandContext(ctx, program, append([]string{"check"}, box...)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return 0, fmt.Errorf("boxup check: %w: %s", err, out)
		}
		used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		return float64(used) / float64(time.Millisecond), nil
	})
}

// bigUpdate builds an update with a file of random bytes.
func (l *lab) bigUpdate(ctx context.Context, size int64) (path string, err error) {
	dir, err := l.folder("big-update")
	if err != nil {
		return "", err
	}
	tree := filepath.Join(dir, "tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return "", err
	}
	if err := writeArchive(filepath.Join(tree, "data"), rand.Reader, size); err != nil {
		return "", err
	}
	name, err := update.ParseName("opq-box-update-1999999999.tar.zst")
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, name.String())
	return path, buildUpdate(ctx, tree, path, name)
}

// digestOf returns the SHA-256 of a file in hex.
func digestOf(path string) (string, error) {
	b, err := os.ReadFile(path)
	return update.Sum(b).String(), err
}
