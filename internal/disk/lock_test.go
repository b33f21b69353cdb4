package disk_test

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/disk"
)

// childLock takes the lock, says so, and keeps it until it is killed or its input ends.
func childLock(t *testing.T, path string) {
	lock, err := disk.TryLock(path)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("locked")
	bufio.NewReader(os.Stdin).ReadByte()
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
}

func TestLockIsFreedByKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	cmd := child(t, "lock", path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "locked\n" {
		t.Fatalf("the other process says %q, %v", line, err)
	}

	lock, err := disk.TryLock(path)
	want := fmt.Sprintf("%s: locked by another process (process %d)", path, cmd.Process.Pid)
	if lock != nil || !errors.Is(err, disk.ErrLocked) || err.Error() != want {
		t.Errorf("beside the other process: %v, %v, want error %s", lock, err, want)
	}

	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the other process ended by itself")
	}
	checkFree(t, path)
}

// checkFree takes the lock, looks at the file, and releases it.
func checkFree(t *testing.T, path string) {
	t.Helper()
	lock, err := disk.TryLock(path)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); string(b) != fmt.Sprintln(os.Getpid()) || err != nil {
		t.Errorf("the lock file holds %q, %v, want this process", b, err)
	}
	if err := lock.Unlock(); err != nil {
		t.Error(err)
	}
}

func TestLockWithinAProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	lock, err := disk.TryLock(path)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := disk.TryLock(path); second != nil || !errors.Is(err, disk.ErrLocked) {
		t.Errorf("the second lock is %v, %v", second, err)
	}
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
	checkFree(t, path)
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("the lock file is %v, %v, want it there with mode 0600", info, err)
	}
}

func TestLockOverwritesWhatWasThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	if err := os.WriteFile(path, []byte("1234567890123456789\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	checkFree(t, path)
}

// Only a process ID is repeated from the file.
func TestLockWithoutHolder(t *testing.T) {
	for _, content := range []string{"", "soon\n", "1; rm -rf /\n", "123456789012345678901"} {
		path := filepath.Join(t.TempDir(), "lock")
		lock, err := disk.TryLock(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = disk.TryLock(path)
		if want := path + ": locked by another process"; err == nil || err.Error() != want {
			t.Errorf("with %q in the file the error is %v, want %s", content, err, want)
		}
		if err := lock.Unlock(); err != nil {
			t.Error(err)
		}
	}
}

func TestLockWithoutDirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nothing", "lock")
	if lock, err := disk.TryLock(path); lock != nil || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("lock is %v, %v, want error %v", lock, err, fs.ErrNotExist)
	}
}

// A link that somebody planted must not have another file overwritten.
func TestLockIsNoLink(t *testing.T) {
	dir := t.TempDir()
	victim, path := filepath.Join(dir, "victim"), filepath.Join(dir, "lock")
	if err := errors.Join(os.WriteFile(victim, []byte("precious"), 0o600), os.Symlink(victim, path)); err != nil {
		t.Fatal(err)
	}
	if _, err := disk.TryLock(path); !errors.Is(err, disk.ErrNotRegular) {
		t.Errorf("locked: %v", err)
	}
	if got, err := os.ReadFile(victim); err != nil || string(got) != "precious" {
		t.Errorf("it is %q now, %v", got, err)
	}
}
