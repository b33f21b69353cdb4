package store

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// asNobody runs the test again as a user whom permissions stop, where it runs as root, and reports
// whether that was done.
func asNobody(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		return false
	}
	const nobody = 65534
	dir, err := os.MkdirTemp("", "store")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program, temp := filepath.Join(dir, "test"), filepath.Join(dir, "tmp")
	mustDo(t, errors.Join(copyProgram(program), os.Chmod(dir, 0o755), os.Mkdir(temp, 0o777), os.Chown(temp, nobody, nobody)))
	cmd := exec.CommandContext(t.Context(), program, "-test.v", "-test.run=^"+t.Name()+"$")
	cmd.Dir, cmd.Env = "/", append(os.Environ(), "TMPDIR="+temp)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("as nobody: %v\n%s", err, out)
	}
	return true
}

func copyProgram(to string) (err error) {
	from, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer from.Close() // opened for reading
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	return errors.Join(err, f.Close())
}

// TestCrashBetweenModeAndName leaves a part with the mode of an archive, which its owner can't open for
// writing.
func TestCrashBetweenModeAndName(t *testing.T) {
	if asNobody(t) {
		return
	}
	o, s, next, in := arriving(t, large, 0, 1)
	mustClose(t, in)
	mustDo(t, os.Chmod(in.arrival.partPath(), 0o444))
	in = mustIngest(t, s, release(t, next, large))
	defer mustClose(t, in)
	wantMissing(t, in)
	mustDo(t, in.Commit(t.Context()))
	mustPublish(t, s, next)
	o.check(s)
}
