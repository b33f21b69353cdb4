package router

import (
	"bufio"
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// sentCall matches a system call that ended, or the end of one that was interrupted in the trace.
var sentCall = regexp.MustCompile(`(sendfile|write|writev|sendmsg|sendto|pwrite64|splice)(?:\(| resumed).* = (\d+)$`)

// TestSendfile watches the system calls of a server that logs its requests, without limits and with them.
func TestSendfile(t *testing.T) {
	for _, bandwidth := range []string{"0", "20000000"} {
		t.Run("bandwidth "+bandwidth, func(t *testing.T) {
			t.Setenv(bandwidthEnv, bandwidth)
			sendsBySendfile(t)
		})
	}
}

func sendsBySendfile(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed")
	}
	dir := t.TempDir()
	body := make([]byte, 5<<20+321)
	_, _ = rand.NewChaCha8([32]byte{}).Read(body) // never fails
	if err := os.WriteFile(filepath.Join(dir, newName), body, 0o644); err != nil {
		t.Fatal(err)
	}
	trace := filepath.Join(dir, "trace")
	wait, addr := traced(t, dir, strace, "-f", "-o", trace, "-e", "trace=sendfile,write,writev,sendmsg,sendto,pwrite64,splice")
	whole := get(t, addr, "/update/"+newName)
	part := get(t, addr, "/update/"+newName, "Range: bytes=1000-900999")
	resumed := get(t, addr, "/update/"+newName, "Range: bytes=4000000-")
	wait()
	if whole.body != string(body) || part.body != string(body[1000:901000]) || resumed.body != string(body[4000000:]) {
		t.Error("the bytes differ")
	}
	sent := sums(t, trace)
	if want := len(whole.body) + len(part.body) + len(resumed.body); sent["sendfile"] != want {
		t.Errorf("sendfile carried %d of %d bytes", sent["sendfile"], want)
	}
	delete(sent, "sendfile")
	for call, n := range sent {
		if n > 4096 { // headers and log lines
			t.Errorf("%s carried %d bytes", call, n)
		}
	}
}

// traced runs this binary as a server under a command. wait ends it.
func traced(t *testing.T, dir string, command ...string) (wait func(), addr string) {
	t.Helper()
	cmd := exec.Command(command[0], append(command[1:], os.Args[0])...)
	cmd.Env = append(os.Environ(), serveEnv+"="+dir)
	var log bytes.Buffer
	cmd.Stderr = &log
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	wait = func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil || strings.Count(log.String(), "msg=request") != 3 {
			t.Fatalf("server: %v, log:\n%s", err, log.String())
		}
	}
	if err != nil {
		wait()
		t.Fatal(err)
	}
	return wait, strings.TrimSpace(line)
}

func sums(t *testing.T, trace string) map[string]int {
	t.Helper()
	b, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int{}
	for line := range strings.Lines(string(b)) {
		if m := sentCall.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			n, err := strconv.Atoi(m[2])
			if err != nil {
				t.Fatal(err)
			}
			out[m[1]] += n
		}
	}
	return out
}
