package dropdir

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asNobody runs the test again as a user whom permissions stop, where it runs as root, and reports
// whether that was done.
func asNobody(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		return false
	}
	const nobody = 65534
	dir, err := os.MkdirTemp("", "dropdir")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program := filepath.Join(dir, "test")
	if err := errors.Join(copyProgram(program), os.Chmod(dir, 0o755), os.Mkdir(filepath.Join(dir, "tmp"), 0o777),
		os.Chown(filepath.Join(dir, "tmp"), nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "-test.v", "-test.run=^"+t.Name()+"$")
	cmd.Dir, cmd.Env = "/", append(os.Environ(), "TMPDIR="+filepath.Join(dir, "tmp"))
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
	defer from.Close()
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	return errors.Join(err, f.Close())
}

func TestNoPermission(t *testing.T) {
	if asNobody(t) {
		return
	}
	dir := filepath.Join(t.TempDir(), "updates")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	good, bad := mustName(t, "opq-box-update-1.tar.gz"), mustName(t, "opq-box-update-2.tar.gz")
	drop(t, dir, good.String(), "good")
	drop(t, dir, bad.String(), "bad")
	chmod := func(base string, mode os.FileMode) {
		t.Helper()
		if err := os.Chmod(filepath.Join(dir, base), mode); err != nil {
			t.Fatal(err)
		}
	}
	chmod(bad.String(), 0)
	var log journal
	d := mustOpen(t, watched(dir, &log))
	if w := d.Health().Warnings; names(d) != good.String() || len(w) != 1 || !strings.Contains(w[0], "permission denied") {
		t.Errorf("listed %q, warnings %q", names(d), w)
	}
	running(t, d)
	chmod(bad.String(), 0o644)
	eventually(t, func() bool { return has(d, good, "good") && has(d, bad, "bad") })
	for _, mode := range []os.FileMode{0, 0o444, 0o111} {
		failures := log.count("can't be listed")
		chmod("", mode)
		eventually(t, func() bool { return names(d) == "" && strings.Contains(d.Health().Error, "permission denied") })
		if _, err := Open(t.Context(), Config{Dir: dir}); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("mode %v: opened: %v", mode, err)
		}
		chmod("", 0o755)
		eventually(t, func() bool { return has(d, bad, "bad") && d.Health().Readable })
		if got := log.count("can't be listed") - failures; got < 1 || got > 2 {
			t.Errorf("mode %v: %d log lines", mode, got)
		}
	}
	if d.Replaced(good) || d.Replaced(bad) {
		t.Error("replaced by chmod")
	}
}

func TestFileThatBecomesUnreadableLeavesAtItsFirstUse(t *testing.T) {
	if asNobody(t) {
		return
	}
	dir := t.TempDir()
	drop(t, dir, "opq-box-update-1.tar.gz", "one")
	d := mustOpen(t, Config{Dir: dir, Poll: time.Hour})
	u, _ := d.Catalog().Newest(time.Now())
	if err := os.Chmod(filepath.Join(dir, u.Name.String()), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Open(u); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("open: %v", err)
	}
	if _, err := d.Open(u); names(d) != "" || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("still listed: %q, %v", names(d), err)
	}
}
