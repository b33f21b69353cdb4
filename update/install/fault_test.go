package install_test

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/update/archive"
	"github.com/openpowerquality/box-update-server/update/install"
)

// TestFaultAtEveryStep has each durable change fail once, carried out or not. The error arrives, or
// nothing came of it, and the next installation ends as it should.
func TestFaultAtEveryStep(t *testing.T) {
	if testing.Short() {
		t.Skip("installs some hundred updates")
	}
	for _, s := range stories(t) {
		for _, apply := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, applied %t", s.name, apply), func(t *testing.T) {
				t.Parallel()
				n, more := 1, true
				for ; more; n++ {
					b := victimBox(t)
					s.prepare(b)
					var at string
					at, more = b.faulty(s.p, n, apply)
					s.finish(b)
					if t.Failed() {
						t.Fatalf("step %d: %s", n, at)
					}
				}
				if n < 10 {
					t.Errorf("%d faults", n)
				}
			})
		}
	}
}

// faulty tries to install once, with a fault at one step, and reports which that is, if there are so many.
func (b *box) faulty(p parcel, n int, apply bool) (at string, reached bool) {
	b.t.Helper()
	fault := errors.New("fault")
	steps := 0
	b.c.FS.Hook = func(op disk.Op, path string) (bool, error) {
		if steps++; steps == n {
			at = string(op) + " " + path
			return apply, fault
		}
		return true, nil
	}
	defer func() { b.c.FS.Hook = nil }()
	i, err := install.Open(b.c)
	if err == nil {
		_, err = p.into(b.t, i, install.Options{})
		must(b.t, i.Close())
	}
	for _, expected := range []error{nil, fault, install.ErrRolledBack, install.ErrScript, archive.ErrImproper} {
		if errors.Is(err, expected) {
			return at, steps >= n
		}
	}
	b.t.Fatalf("%s: error is %v", at, err)
	return "", false
}

// A disk that is full when the result is recorded gets place from the reserve.
func TestDiskFullAtTheRecord(t *testing.T) {
	b := newBox(t)
	b.fullAfterTheScript(1)
	b.mustInstall(script(t, 7, ran))
}

// Where that does not help, the script runs again when there is room.
func TestDiskStaysFull(t *testing.T) {
	b := newBox(t)
	p := script(t, 7, ran)
	b.fullAfterTheScript(1000)
	s := b.with(func(i *install.Installer) {
		_, err := p.into(t, i, install.Options{})
		wantErr(t, err, disk.ErrNoSpace)
	})
	if s.Installed != nil {
		t.Errorf("installed is %+v", s.Installed)
	}
	b.c.FS.Hook = nil
	if s := b.status(); s.Installed != nil || len(s.Failures) != 0 || len(s.History) != 0 {
		t.Errorf("status is %+v", s)
	}
	b.mustInstall(p)
	b.wantTold("ran", "7", "7")
}

// fullAfterTheScript has so many writes fail after the script ran.
func (b *box) fullAfterTheScript(times int) {
	b.c.FS.Hook = func(op disk.Op, path string) (bool, error) {
		if _, err := os.Stat(filepath.Join(b.home, "ran")); err == nil && op == disk.OpWrite && times > 0 {
			times--
			return false, syscall.ENOSPC
		}
		return true, nil
	}
}

// smallDisk puts the state of the box on a file system of that many bytes.
func (b *box) smallDisk(size int) {
	b.t.Helper()
	if err := syscall.Mount("tmpfs", b.c.Dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		b.t.Skipf("mount: %v", err)
	}
	b.t.Cleanup(func() { must(b.t, syscall.Unmount(b.c.Dir, syscall.MNT_DETACH)) })
}

func TestDiskTooSmall(t *testing.T) {
	noise := make([]byte, 11<<19)
	for i, x := 0, uint32(1); i < len(noise); i++ {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		noise[i] = byte(x)
	}
	p := pack(t, 7, map[string]string{"install_update.sh": ran, "noise": string(noise)})
	b := newBox(t)
	b.smallDisk(10 << 20)
	b.mustInstall(script(t, 6, ran))
	for unpacked, want := range map[int64]string{
		int64(len(noise)): "bytes free, got", // known before
		0:                 "no space left on device",
	} {
		_, s, err := b.install(p, install.Options{Unpacked: unpacked})
		wantErr(t, err, disk.ErrNoSpace)
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want %s", err, want)
		}
		if s.Version.String() != "6" || len(s.Failures) != 0 {
			t.Errorf("status is %+v", s)
		}
	}
	b.wantTold("ran", "6")
	must(t, os.WriteFile(filepath.Join(b.c.Dir, "ballast"), make([]byte, 9<<20), 0o600))
	b.fails(script(t, 8, ran), disk.ErrNoSpace)
	must(t, os.Remove(filepath.Join(b.c.Dir, "ballast")))
	b.mustInstall(script(t, 8, ran))
}

// TestAsOrdinaryUser runs other tests as a user who isn't root.
func TestAsOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("is one")
	}
	dir, err := os.MkdirTemp("", "install-user-")
	must(t, err)
	defer os.RemoveAll(dir)
	must(t, os.Chmod(dir, 0o755))
	bin, temp := filepath.Join(dir, "install.test"), filepath.Join(dir, "tmp")
	must(t, testworld.CopyProgram(bin))
	must(t, errors.Join(os.Mkdir(temp, 0o700), os.Chown(temp, 65534, 65534)))
	remarks := filepath.Join(temp, "not-tested") // that user can't write where the others go
	cmd := exec.CommandContext(t.Context(), bin, "-test.short", "-test.run=TestInstall|TestHold|TestSetAside|TestTimeLimit|TestRolledBack|TestResume|TestReadOnly|TestRebootPolicy|TestScriptKills")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TMPDIR="+temp, "HOME="+temp, "NOT_TESTED="+remarks)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	raw, err := os.ReadFile(remarks)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	for line := range strings.Lines(string(raw)) {
		testworld.Remark(t, "as an ordinary user: "+strings.TrimSuffix(line, "\n"))
	}
}

// A disk that loses bytes of an archive while it is unpacked says nothing about the update: it is not set
// aside.
func TestDiskLosesBytes(t *testing.T) {
	b := newBox(t)
	p := script(t, 7, ran)
	must(t, os.Chmod(p.path, 0o644)) // so that the box has a copy
	lost := false
	b.c.Logger = slog.New(stepper(func(what string) {
		if what != "log unpacking" || lost {
			return
		}
		lost = true
		path := b.at("archives", p.digest.String())
		raw, err := os.ReadFile(path)
		must(t, err)
		raw[len(raw)/2] ^= 1
		must(t, os.Chmod(path, 0o600))
		must(t, os.WriteFile(path, raw, 0o600))
	}))
	s := b.fails(p, install.ErrMismatch)
	if len(s.Failures) != 0 || len(s.History) != 0 {
		t.Errorf("status is %+v", s)
	}
	b.mustInstall(p)
	b.wantTold("ran", "7")
}

// Where no program can run, no update is to blame.
func TestNoPrograms(t *testing.T) {
	b := newBox(t)
	if err := syscall.Mount("tmpfs", b.c.Dir, "tmpfs", syscall.MS_NOEXEC, ""); err != nil {
		testworld.NotTested(t, "a disk on which no program can run", err)
	}
	t.Cleanup(func() { must(t, syscall.Unmount(b.c.Dir, syscall.MNT_DETACH)) })
	_, s, err := b.install(script(t, 7, ran), install.Options{})
	if err == nil || !strings.Contains(err.Error(), "mounted noexec") {
		t.Errorf("error is %v", err)
	}
	if len(s.Failures) != 0 {
		t.Errorf("status is %+v", s)
	}
	b.wantTold("ran")
}
