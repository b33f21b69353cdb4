package main_test

import (
	"bytes"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// asked runs the command health and returns its exit code and what it wrote.
func asked(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := exec.Command(program, append([]string{"health"}, args...)...)
	var out, err bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &err
	if e := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(e)
	}
	return cmd.ProcessState.ExitCode(), out.String(), err.String()
}

func TestHealthOfAReadyServer(t *testing.T) {
	t.Parallel()
	dir := dropped(t, newest)
	s := serve(t, dir)
	for name, args := range map[string][]string{
		"by URL":            {s.base},
		"slash at the end":  {s.base + "/"},
		"by its settings":   {"--listen", s.addr},
		"as a supervisor":   {"--live", s.base},
		"on all interfaces": {"--listen", strings.Replace(s.addr, "127.0.0.1", "0.0.0.0", 1)},
	} {
		if code, stdout, stderr := asked(t, args...); code != 0 || !strings.Contains(stdout, "ok") || stderr != "" {
			t.Errorf("%s: got %d, %q, %q", name, code, stdout, stderr)
		}
	}
}

// A mirror that has not synced is not ready, and alive all the same.
func TestHealthOfAServerThatIsNotReady(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	s := launch{args: []string{"mirror", "http://127.0.0.1:1", "--root", filepath.Join(w.dir, "metadata", "1.root.json"),
		"--data-dir", filepath.Join(t.TempDir(), "M"), "--patience", "0s", "--listen", "127.0.0.1:0"}}.start(t)
	if code, stdout, stderr := asked(t, s.base); code != 1 || !strings.Contains(stdout, "repository") || !strings.Contains(stderr, "503") {
		t.Errorf("got %d, %q, %q", code, stdout, stderr)
	}
	if code, stdout, stderr := asked(t, "--live", s.base); code != 0 || strings.TrimSpace(stdout) != "ok" || stderr != "" {
		t.Errorf("got %d, %q, %q", code, stdout, stderr)
	}
}

// Where nobody answers, or not in time, that is told from a server with problems.
func TestHealthWithoutAnswer(t *testing.T) {
	t.Parallel()
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	for name, args := range map[string][]string{
		"nobody listens":  {"http://127.0.0.1:1"},
		"nobody answers":  {"http://" + mute.Addr().String(), "--timeout", "100ms"},
		"by the settings": {"--listen", mute.Addr().String(), "--timeout", "100ms"},
	} {
		if code, stdout, stderr := asked(t, args...); code != 3 || stdout != "" || !strings.HasPrefix(stderr, program+": ") {
			t.Errorf("%s: got %d, %q, %q", name, code, stdout, stderr)
		}
	}
}

func TestHealthUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"ftp://127.0.0.1"}, {"127.0.0.1:8151"}, {"http://127.0.0.1/?x"}, {"http://127.0.0.1", "b"}, {"http://127.0.0.1", "--timeout", "0s"}} {
		if code, stdout, stderr := asked(t, args...); code != 2 || stdout != "" || stderr == "" {
			t.Errorf("%q: got %d, %q, %q", args, code, stdout, stderr)
		}
	}
	if code, _, stderr := asked(t); code != 1 || !strings.Contains(stderr, variable) {
		t.Errorf("without settings: got %d, %q", code, stderr)
	}
}
