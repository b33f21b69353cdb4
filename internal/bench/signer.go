package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// listed is how many updates a list holds at most.
const listed = 2000

// A signer is boxsign with the keys of one repository. The keys are not encrypted: to open one that is
// takes as long as scrypt is told to.
type signer struct{ program, keys, repo string }

// signer makes keys and an empty repository in a new directory.
func (l *lab) signer(ctx context.Context, name string) (signer, error) {
	dir, err := l.folder(name)
	if err != nil {
		return signer{}, err
	}
	program, err := l.build(ctx, "boxsign")
	if err != nil {
		return signer{}, err
	}
	s := signer{program, filepath.Join(dir, "keys"), filepath.Join(dir, "repository")}
	if err := os.Mkdir(s.keys, 0o700); err != nil {
		return signer{}, err
	}
	for _, role := range []string{"root", "release", "online"} {
		if err := newKey(ctx, filepath.Join(s.keys, role)); err != nil {
			return signer{}, err
		}
	}
	_, err = timed(ctx, s.program, "init", "--keys", s.keys, "--repo", s.repo, "--yes")
	return s, err
}

// newKey makes a private key, path.pem, and its public key, path.pub.
func newKey(ctx context.Context, path string) error {
	if _, err := timed(ctx, "openssl", "genpkey", "-algorithm", "ed25519", "-out", path+".pem"); err != nil {
		return err
	}
	if err := os.Chmod(path+".pem", 0o600); err != nil {
		return err
	}
	_, err := timed(ctx, "openssl", "pkey", "-in", path+".pem", "-pubout", "-out", path+".pub")
	return err
}

// root is the path of the root that boxes trust.
func (s signer) root() string { return filepath.Join(s.repo, "metadata", "1.root.json") }

// serving is how our server is told to serve the repository.
func (s signer) serving() []string {
	return []string{quiet, "--data-dir", s.repo, "--online-key", filepath.Join(s.keys, "online.pem")}
}

// add signs archives into the directory of the repository and returns how long that took. They are
// random bytes, so that what is measured is not a decompressor.
func (s signer) add(ctx context.Context, files ...string) (time.Duration, error) {
	args := []string{"add", "--keys", s.keys, "--repo", s.repo, "--yes", "--force"}
	return timed(ctx, s.program, append(args, files...)...)
}

// publish signs an archive, publishes it at a server and returns how long that took.
func (s signer) publish(ctx context.Context, file string, server *process) (time.Duration, error) {
	return timed(ctx, s.program, "publish", "--keys", s.keys, "--root", s.root(), "--yes", "--force", file, server.url(""))
}

// timed runs a program to its end and returns how long it took. One that fails is an error with what
// it printed.
func timed(ctx context.Context, program string, args ...string) (time.Duration, error) {
	begin := time.Now()
	out, err := exec.CommandContext(ctx, lookup(program), args...).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("%s %s: %w: %s", filepath.Base(program), args[0], err, out)
	}
	return time.Since(begin), nil
}
