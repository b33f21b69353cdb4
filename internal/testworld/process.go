package testworld

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/disk"
)

// KilledBefore returns a disk that kills its process with SIGKILL before the first change below dir that is not in known.
// It prints the name of that change. If known is nil, the process is never killed. The name of a change includes how
// often that step came before, rather than a number in sequence, because the order of steps differs from run to run.
// The disk doesn't sync, since what a process wrote outlives the process.
func KilledBefore(known map[string]bool, dir string) disk.FS {
	var mu sync.Mutex
	count := map[string]int{}
	return disk.FS{Hook: func(op disk.Op, path string) (bool, error) {
		mu.Lock()
		defer mu.Unlock()
		step := StepName(string(op), strings.TrimPrefix(path, dir))
		count[step]++
		if at := fmt.Sprintf("%s #%d", step, count[step]); known != nil && !known[at] {
			fmt.Println(at)
			if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
				panic(err)
			}
			select {} // wait for the signal
		}
		return op != disk.OpSync && op != disk.OpSyncDir, nil
	}}
}

// Killed reports whether a process, which ended with err and wrote out, was killed. If it was not, it must have
// succeeded and written done, else the test fails.
func Killed(t testing.TB, err error, out, done string) bool {
	t.Helper()
	if err == nil && out == done+"\n" {
		return false
	}
	exit := (*exec.ExitError)(nil)
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("expected it killed or %s, got %v\n%s", done, err, out)
	}
	return true
}

// StepName returns the name of a change of a file. Paths that differ only in a digest, an update's name, a version or a
// time have the same name.
func StepName(op, path string) string {
	for _, r := range []struct{ from, to string }{
		{`[0-9a-f]{64}`, "<digest>"}, {`[0-9]{10}`, "<time>"}, {`opq-box-update-[0-9]+\.tar\.gz`, "<name>"},
		{`/[0-9]+\.(root|targets|snapshot)`, "/<N>.$1"}, {`/sha256/[0-9a-f]{2}(/|$)`, "/sha256/<xx>$1"},
	} {
		path = regexp.MustCompile(r.from).ReplaceAllString(path, r.to)
	}
	return fmt.Sprintf("%-8s %s", op, path)
}

// AsNobody is for tests of permissions, which don't stop root. If the test runs as root, AsNobody runs it again in a
// process of the user nobody, and returns true: then the caller returns.
func AsNobody(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		return false
	}
	const nobody = 65534
	dir, err := os.MkdirTemp("", "nobody")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program, temp := filepath.Join(dir, "test"), filepath.Join(dir, "tmp")
	if err := errors.Join(CopyProgram(program), os.Chmod(dir, 0o755), os.Mkdir(temp, 0o777), os.Chown(temp, nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "-test.v", "-test.run=^"+t.Name()+"$")
	cmd.Dir, cmd.Env = "/", append(os.Environ(), "TMPDIR="+temp)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("as nobody: %v\n%s", err, out)
	}
	return true
}

// CopyProgram copies the program of this test to a new executable file. It holds the lock of forks: a child that is
// forked meanwhile would have the copy open for writing for a moment, and the copy could not be run.
func CopyProgram(to string) (err error) {
	from, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer from.Close() // opened for reading
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	return errors.Join(err, f.Close())
}
