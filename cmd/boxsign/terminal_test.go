package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/openpowerquality/box-update-server/internal/testworld"
)

// founded returns a directory with keys K and a repository R.
func founded(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("boxsign", "init", "--keys", "K", "--repo", "R", "--yes")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), passphraseVariable+"=mosaic-Tulip-93-harbor")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// TestCtrlC interrupts boxsign at each point where a person waits or is asked. The message has a line of its own, the exit
// code is that of shells, and the terminal echoes again what is typed.
func TestCtrlC(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // it takes connections and never answers
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	url := "http://" + silent.Addr().String()
	made := founded(t)
	for name, c := range map[string]struct{ args, at string }{
		"while it waits":   {"verify-repo --root R/metadata/1.root.json " + url, "asking " + url},
		"at a question":    {"renew --list --keys K --repo R", "Sign this? [y/N] "},
		"at a passphrase":  {"renew --list --keys K --repo R --yes", "Passphrase for K/release.pem: "},
		"at a second one":  {"keygen --keys K2 root", "Passphrase for "},
		"while it renews":  {"renew --keys K --repo " + url, "asking " + url},
		"while it lists":   {"status --keys K " + url, "asking " + url},
		"before it exists": {"init --keys K3 --repo R3", "Make them? [y/N] "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if out, err := exec.Command("cp", "-a", made+"/.", dir).CombinedOutput(); err != nil { // with the modes
				t.Fatalf("%v\n%s", err, out)
			}
			cmd := exec.Command("boxsign", strings.Fields(c.args)...)
			cmd.Dir, cmd.Env = dir, append(os.Environ(), "TERM=xterm", "NO_COLOR=1")
			s := testworld.StartSession(t, cmd)
			s.Await(c.at, 0)
			s.Type("\x03")
			shown, code := s.Wait()
			if code != 130 || !strings.HasSuffix(shown, "\r\nboxsign: interrupted\r\n") {
				t.Errorf("got exit code %d, expected 130 and a message on a line of its own, after\n%q", code, shown)
			}
			if mode := s.Mode(); mode&unix.ECHO == 0 {
				t.Error("the terminal does not echo any more")
			}
			for _, made := range []string{"K2/root.pem", "K3", "R3"} {
				if _, err := os.Lstat(filepath.Join(dir, made)); err == nil {
					t.Errorf("%s was made", made)
				}
			}
		})
	}
}

// TestColors looks at the plan on a terminal: what is added and what is warned of has a colour, unless NO_COLOR or the terminal
// forbids it.
func TestColors(t *testing.T) {
	t.Parallel()
	dir := founded(t)
	if err := os.Mkdir(filepath.Join(dir, "DIR"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "DIR", "install_update.sh"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), passphraseVariable+"=mosaic-Tulip-93-harbor", "NO_COLOR=", "TERM=xterm")
	for _, args := range []string{"build DIR -o p-1.tar.gz", "build DIR -o p-2.tar.gz", "add --keys K --repo R --yes p-2.tar.gz"} {
		cmd := exec.Command("boxsign", strings.Fields(args)...)
		cmd.Dir, cmd.Env = dir, env
		if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), "\x1b") {
			t.Fatalf("%s: %v\n%q", args, err, out)
		}
	}
	for name, c := range map[string]struct {
		env     string
		colored bool
	}{
		"terminal": {"TERM=xterm", true},
		"NO_COLOR": {"NO_COLOR=1", false},
		"dumb":     {"TERM=dumb", false},
	} {
		t.Run(name, func(t *testing.T) { // one after the other: each locks the keys
			cmd := exec.Command("boxsign", "add", "--keys", "K", "--repo", "R", "p-1.tar.gz")
			cmd.Dir, cmd.Env = dir, append(slices.Clone(env), c.env)
			s := testworld.StartSession(t, cmd)
			s.Await("Sign this? [y/N] ", 0)
			s.Type("n\n")
			shown, code := s.Wait()
			if code != 1 {
				t.Errorf("got exit code %d after\n%q", code, shown)
			}
			for _, line := range []string{"\x1b[32madded: p-1.tar.gz ", "\x1b[1;33mwarning: p-1.tar.gz is older than p-2.tar.gz"} {
				if strings.Contains(shown, line) != c.colored || !c.colored && strings.Contains(shown, "\x1b") {
					t.Errorf("%q: expected it %v in\n%q", line, c.colored, shown)
				}
			}
		})
	}
}
