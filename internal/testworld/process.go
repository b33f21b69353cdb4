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

// KilledBefore returns the disk of a process that is killed, by the kernel and without notice, before the first change
// below dir that is not among those known, and says which that is; where known is nil, never. A change is known by its
// name and by how often that came: blocks reach the disk beside other steps, in an order that differs from run to run.
// It doesn't sync, since what a process wrote outlives it.
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
			select {} // until the kernel gets to it
		}
		return op != disk.OpSync && op != disk.OpSyncDir, nil
	}}
}

// Killed reports whether a process, which ended with err and wrote out, was killed. Otherwise it must have
// got through, and have said done.
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

// StepName gives changes of files that differ in digest, name, number or time one name.
func StepName(op, path string) string {
	for _, r := range []struct{ from, to string }{
		{`[0-9a-f]{64}`, "<digest>"}, {`[0-9]{10}`, "<time>"}, {`opq-box-update-[0-9]+\.tar\.gz`, "<name>"},
		{`/[0-9]+\.(root|targets|snapshot)`, "/<N>.$1"}, {`/sha256/[0-9a-f]{2}(/|$)`, "/sha256/<xx>$1"},
	} {
		path = regexp.MustCompile(r.from).ReplaceAllString(path, r.to)
	}
	return fmt.Sprintf("%-8s %s", op, path)
}

// AsNobody runs the test again as a user whom permissions stop, where it runs as root, and reports
// whether that was done.
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

// CopyProgram copies the program of this test, ready to be run. Nothing is forked meanwhile: the child would have
// the copy open for writing for a moment, and it could not be run.
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
