package tour_test

import (
	"bufio"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/testworld"
)

// demo returns the command that shows the main job, with the programs of this test and a port of its own.
func demo(t *testing.T) *exec.Cmd {
	t.Helper()
	for _, program := range []string{"bash", "curl", "go"} {
		if _, err := exec.LookPath(program); err != nil {
			testworld.NotTested(t, "the demonstration", err)
		}
	}
	boxup, err := exec.LookPath("boxup")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join("..", "..", ".ci", "demo"))
	cmd.Env = append(os.Environ(), "DEMO_BIN="+filepath.Dir(boxup), "DEMO_PORT="+port, "TMPDIR="+t.TempDir())
	return cmd
}

// The demonstration runs to its end, where it serves until it is interrupted, and leaves nothing behind.
func TestDemo(t *testing.T) {
	t.Parallel()
	cmd := demo(t)
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = in, in
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	var shown strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		shown.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), "docs/BOX.md") {
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Error(err)
			}
			break
		}
	}
	rest, err := io.ReadAll(out)
	if err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s%s", err, shown.String(), rest)
	}
	for _, want := range []string{
		"root fingerprint: ", "state: published", "Signature Verified Successfully", "8. A box", "installed: opq-box-update-1550190683.tar.bz2",
		"update: none: up to date", "The status page: http://127.0.0.1:", "What to read next:",
	} {
		if !strings.Contains(shown.String(), want) {
			t.Errorf("no %q in\n%s", want, shown.String())
		}
	}
	if strings.Contains(shown.String(), "\x1b") {
		t.Errorf("colours in a pipe:\n%q", shown.String())
	}
	for line := range strings.Lines(shown.String()) {
		for word := range strings.FieldsSeq(line) {
			if page := filepath.Join("..", "..", word); strings.HasSuffix(word, ".md") {
				if _, err := os.Stat(page); err != nil {
					t.Error(err)
				}
			}
		}
	}
	left, err := os.ReadDir(strings.TrimPrefix(cmd.Env[len(cmd.Env)-1], "TMPDIR="))
	if err != nil || len(left) > 0 {
		t.Errorf("it leaves %v, %v", left, err)
	}
}

// On a terminal the demonstration has bold headings, and none with NO_COLOR.
func TestDemoColours(t *testing.T) {
	t.Parallel()
	for setting, bold := range map[string]bool{"TERM=xterm": true, "NO_COLOR=1": false} {
		cmd := demo(t)
		cmd.Env = append(cmd.Env, "TERM=xterm", setting)
		session := testworld.StartSession(t, cmd)
		session.Await("2. The origin", 0)
		session.Type("\x03")
		shown, _ := session.Wait()
		if strings.Contains(shown, "\x1b[1m") != bold {
			t.Errorf("%s: bold headings are %v, expected %v\n%q", setting, !bold, bold, shown)
		}
	}
}
