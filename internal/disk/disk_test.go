package disk_test

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/testworld"
)

func TestModeIsExact(t *testing.T) {
	for _, mode := range []fs.FileMode{0o444, 0o600, 0o666} {
		path := filepath.Join(t.TempDir(), "file")
		if err := (disk.FS{}).WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode(); got != mode {
			t.Errorf("mode is %v, want %v", got, mode)
		}
	}
}

func TestCreateFileRefusesWhatExists(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(path string) error
	}{
		{"file", func(path string) error { return os.WriteFile(path, nil, 0o600) }},
		{"directory", func(path string) error { return os.Mkdir(path, 0o700) }},
		{"link to nothing", func(path string) error { return os.Symlink("nothing", path) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "file")
			if err := c.make(path); err != nil {
				t.Fatal(err)
			}
			err := disk.FS{}.CreateFile(path, []byte("new"), 0o600)
			if !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), path) {
				t.Errorf("error is %v, want %v and the path", err, fs.ErrExist)
			}
			if names, err := os.ReadDir(dir); err != nil || len(names) != 1 {
				t.Errorf("the directory holds %v, %v, want one name", names, err)
			}
		})
	}
}

func TestFileThatCannotBeReplaced(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.MkdirAll(filepath.Join(path, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	err := disk.FS{}.WriteFile(path, nil, 0o600)
	var link *os.LinkError
	if !errors.As(err, &link) || !strings.HasPrefix(err.Error(), "write "+path+": ") || strings.Contains(err.Error(), disk.TempPrefix) {
		t.Errorf("error is %v, want that of a rename, without the temporary name", err)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 1 {
		t.Errorf("the directory holds %v, %v, want one name", names, err)
	}
}

func TestRenameOfNothing(t *testing.T) {
	dir := t.TempDir()
	err := disk.FS{}.Rename(filepath.Join(dir, "a"), filepath.Join(dir, "b"))
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error is %v, want %v", err, fs.ErrNotExist)
	}
}

func TestRemove(t *testing.T) {
	dir := t.TempDir()
	if err := (disk.FS{}).Remove(filepath.Join(dir, "nothing")); err != nil {
		t.Errorf("removing nothing: %v", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "full", "below"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := (disk.FS{}).Remove(filepath.Join(dir, "full")); !errors.Is(err, syscall.ENOTEMPTY) {
		t.Errorf("error is %v, want %v", err, syscall.ENOTEMPTY)
	}
}

func TestSync(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	var got string
	f := disk.FS{Hook: func(op disk.Op, path string) (bool, error) {
		got = fmt.Sprint(op, " ", path)
		return true, nil
	}}
	if err := f.Sync(file); err != nil {
		t.Error(err)
	}
	if want := "sync " + file.Name(); got != want {
		t.Errorf("step is %q, want %q", got, want)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(file); !errors.Is(err, os.ErrClosed) {
		t.Errorf("error for a closed file is %v, want %v", err, os.ErrClosed)
	}
}

func TestMkdirAll(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	var got []string
	f := disk.FS{Hook: func(op disk.Op, path string) (bool, error) {
		got = append(got, fmt.Sprint(op, " ", strings.TrimPrefix(path, filepath.Dir(root))))
		return true, nil
	}}
	for range 2 {
		if err := f.MkdirAll(filepath.Join(root, "a/b/c")+"/", 0o750); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"syncdir ", "mkdir /root/a", "syncdir /root", "mkdir /root/a/b", "syncdir /root/a", "mkdir /root/a/b/c", "syncdir /root/a/b", "syncdir /root/a/b"}
	if !slices.Equal(got, want) {
		t.Errorf("steps are %q, want %q", got, want)
	}
	info, err := os.Stat(filepath.Join(root, "a/b/c"))
	if err != nil || info.Mode() != fs.ModeDir|0o750 {
		t.Errorf("directory is %v, %v", info, err)
	}
}

// TestMkdirAllAfterACrash crashes at each step, before and after it, and tries again: every directory that is there in
// the end had its parent synced after it was made.
func TestMkdirAllAfterACrash(t *testing.T) {
	crash := errors.New("crash")
	for n := 1; n <= 7; n++ {
		for _, after := range []bool{false, true} {
			root := t.TempDir()
			unsynced := map[string]bool{} // directories by path
			record := func(op disk.Op, path string) {
				switch op {
				case disk.OpMkdir:
					unsynced[path] = true
				case disk.OpSyncDir:
					maps.DeleteFunc(unsynced, func(made string, _ bool) bool { return filepath.Dir(made) == path })
				}
			}
			steps := 0
			f := disk.FS{Hook: func(op disk.Op, path string) (bool, error) {
				steps++
				apply := steps < n || steps == n && after
				if apply {
					record(op, path)
				}
				if steps >= n {
					return apply, crash
				}
				return true, nil
			}}
			path := filepath.Join(root, "a/b/c")
			if err := f.MkdirAll(path, 0o700); !errors.Is(err, crash) {
				t.Fatalf("step %d: got %v, want a crash", n, err)
			}
			f.Hook = func(op disk.Op, path string) (bool, error) {
				record(op, path)
				return true, nil
			}
			if err := f.MkdirAll(path, 0o700); err != nil || len(unsynced) > 0 {
				t.Errorf("crash at step %d, after it: %t: the parents of %v were never synced, %v", n, after, unsynced, err)
			}
		}
	}
}

// TestMkdirAllBelowWhatCannotBeRead finds a directory in one whose names its user may not list.
func TestMkdirAllBelowWhatCannotBeRead(t *testing.T) {
	if testworld.AsNobody(t) {
		return
	}
	top := filepath.Join(t.TempDir(), "top")
	if err := errors.Join(os.MkdirAll(filepath.Join(top, "dir"), 0o700), os.Chmod(top, 0o300)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(top, 0o700) })
	if err := (disk.FS{}).MkdirAll(filepath.Join(top, "dir"), 0o700); err != nil {
		t.Error(err)
	}
}

func TestMkdirAllRefuses(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path string
		want error
	}{
		{"file", syscall.ENOTDIR},
		{"file/below", syscall.ENOTDIR},
		{"link", fs.ErrExist},
		{"link/below", fs.ErrExist},
	} {
		if err := (disk.FS{}).MkdirAll(filepath.Join(root, c.path), 0o700); !errors.Is(err, c.want) {
			t.Errorf("%s: error is %v, want %v", c.path, err, c.want)
		}
	}
}

// Another process makes the directory between the look and mkdir(2).
func TestMkdirAllBesideAnother(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dir")
	f := disk.FS{Hook: func(op disk.Op, path string) (bool, error) {
		if op == disk.OpMkdir {
			return true, os.Mkdir(path, 0o700)
		}
		return true, nil
	}}
	if err := f.MkdirAll(path, 0o700); err != nil {
		t.Errorf("error is %v", err)
	}
}

func TestMkdirAllFaults(t *testing.T) {
	fault := errors.New("fault")
	for _, op := range []disk.Op{disk.OpMkdir, disk.OpSyncDir} {
		f := disk.FS{Hook: func(o disk.Op, _ string) (bool, error) {
			if o == op {
				return true, fault
			}
			return true, nil
		}}
		if err := f.MkdirAll(filepath.Join(t.TempDir(), "a/b"), 0o700); !errors.Is(err, fault) {
			t.Errorf("%s: error is %v, want %v", op, err, fault)
		}
	}
}

func TestRemoveTemps(t *testing.T) {
	dir := t.TempDir()
	for i := range 1500 { // more than are read at once
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(disk.TempPrefix, i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	keep := []string{".tmp", "a" + disk.TempPrefix, "file"}
	for _, name := range keep {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := (disk.FS{}).RemoveTemps(dir); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range left {
		names = append(names, e.Name())
	}
	if !slices.Equal(names, keep) {
		t.Errorf("left are %q, want %q", names, keep)
	}
}

func TestRemoveTempsFaults(t *testing.T) {
	dir := t.TempDir()
	if err := (disk.FS{}).RemoveTemps(filepath.Join(dir, "nothing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error is %v, want %v", err, fs.ErrNotExist)
	}
	if err := os.WriteFile(filepath.Join(dir, disk.TempPrefix+"1"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fault := errors.New("fault")
	f := disk.FS{Hook: func(disk.Op, string) (bool, error) { return false, fault }}
	if err := f.RemoveTemps(dir); !errors.Is(err, fault) {
		t.Errorf("error is %v, want %v", err, fault)
	}
}
