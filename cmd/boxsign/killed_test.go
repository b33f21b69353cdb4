package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// killSteps are the system calls before which boxsign add is killed, each at its first, second … time.
var killSteps = []string{"fsync", "/^rename", "/^link", "/^unlink", "/^mkdir", "ftruncate", "flock"}

// TestKilledAnywhere kills boxsign add at every step on the disk: the repository is the old or the new
// one, whole, and saying it again finishes.
func TestKilledAnywhere(t *testing.T) {
	needStrace(t)
	w := newKillWorld(t)
	for _, step := range killSteps {
		t.Run(strings.Trim(step, "/^"), func(t *testing.T) {
			kills, finished := 0, 0
			for n := 1; ; n++ {
				dir := w.fresh(t)
				killed := w.add(t, dir, step, n)
				if !killed {
					break
				}
				kills++
				if w.check(t, dir, fmt.Sprintf("killed before %s %d", step, n)) == 2 {
					finished++
				}
				if w.add(t, dir, "", 0) || w.check(t, dir, "said again") != 2 {
					t.Errorf("killed before %s %d: saying it again didn't finish", step, n)
				}
			}
			t.Logf("killed %d times, %d of them after the new repository was there", kills, finished)
			if kills == 0 {
				t.Error("the step never came: expected it to be killed there")
			}
		})
	}
}

// TestInitKilledAnywhere kills boxsign init at every step on the disk: saying it again makes the
// repository, unless it is there already, whole.
func TestInitKilledAnywhere(t *testing.T) {
	needStrace(t)
	w := newKillWorld(t)
	const start = "init --keys K2 --repo R2 --yes --root-key OTHER/online.pem --release-key OTHER/online.pem"
	const verify = "verify-repo --root R2/metadata/1.root.json R2"
	for _, step := range killSteps[:2] {
		t.Run(strings.Trim(step, "/^"), func(t *testing.T) {
			for n := 1; ; n++ {
				dir := w.fresh(t)
				if !w.killed(t, dir, step, n, strings.Fields(start)...) {
					if n == 1 {
						t.Error("the step never came: expected it to be killed there")
					}
					return
				}
				if _, err := w.run(t, dir, verify); err != nil {
					w.must(t, dir, start)
				}
				w.must(t, dir, "add --keys K2 --repo R2 --root R2/metadata/1.root.json --release-key OTHER/online.pem --yes p-1.tar.gz")
				w.must(t, dir, verify)
			}
		})
	}
}

func needStrace(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("runs boxsign some hundred times")
	}
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skipf("NOT TESTED: kill -9 at every step: %v", err)
	}
}

// killWorld is a repository of one update, and another update to add to it.
type killWorld struct{ boxsign, base string }

func newKillWorld(t *testing.T) *killWorld {
	t.Helper()
	path, err := exec.LookPath("boxsign")
	if err != nil {
		t.Fatal(err)
	}
	w := &killWorld{path, t.TempDir()}
	if err := os.MkdirAll(filepath.Join(w.base, "DIR"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.base, "DIR", "install_update.sh"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{
		"build DIR -o p-1.tar.gz", "build DIR -o p-2.tar.gz",
		"keygen --keys OTHER online", "init --keys K --repo R --yes --root-key OTHER/online.pem --release-key OTHER/online.pem",
		"add --keys K --repo R --yes --release-key OTHER/online.pem p-1.tar.gz",
	} {
		w.must(t, w.base, args)
	}
	return w
}

func (w *killWorld) run(t *testing.T, dir, args string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), w.boxsign, strings.Fields(args)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (w *killWorld) must(t *testing.T, dir, args string) {
	t.Helper()
	if out, err := w.run(t, dir, args); err != nil {
		t.Fatalf("boxsign %s: %v\n%s", args, err, out)
	}
}

// fresh copies the world, so that each kill meets the same.
func (w *killWorld) fresh(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "w")
	if out, err := exec.CommandContext(t.Context(), "cp", "-a", w.base, dir).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v\n%s", err, out)
	}
	return dir
}

// add adds the second update and reports whether it was killed; step and n are as for killed.
func (w *killWorld) add(t *testing.T, dir, step string, n int) bool {
	t.Helper()
	return w.killed(t, dir, step, n, "add", "--keys", "K", "--repo", "R", "--yes", "--release-key", "OTHER/online.pem", "p-2.tar.gz")
}

// killed runs boxsign and reports whether it was killed, before the nth time that one of its threads
// comes to a step; "" lets it run.
func (w *killWorld) killed(t *testing.T, dir, step string, n int, args ...string) bool {
	t.Helper()
	args = append([]string{w.boxsign}, args...)
	if step != "" {
		args = append([]string{"strace", "-f", "-qq", "-o", os.DevNull, "-e", "trace=" + step, "-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", step, n)}, args...)
	}
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err == nil {
		return false
	}
	// strace ends as its child does.
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || status.Signal() != syscall.SIGKILL {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return true
}

// check verifies the repository and returns how many updates it lists.
func (w *killWorld) check(t *testing.T, dir, when string) int {
	t.Helper()
	out, err := w.run(t, dir, "verify-repo --root "+filepath.Join(w.base, "R/metadata/1.root.json")+" R")
	for updates := 1; updates <= 2; updates++ {
		if err == nil && strings.Contains(out, fmt.Sprintf("updates: %d\narchives verified: %[1]d\n", updates)) {
			return updates
		}
	}
	t.Errorf("%s: expected the old or the new repository, got %v\n%s", when, err, out)
	return 0
}
