package disk_test

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/disk"
)

// TestFullDisk: every write that meets a full disk says so with ErrNoSpace, in the words of the system.
func TestFullDisk(t *testing.T) {
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT} {
		for op := range steps(t) {
			f := disk.FS{Hook: func(at disk.Op, _ string) (bool, error) {
				if at == op {
					return false, full
				}
				return true, nil
			}}
			err := allWrites(f, t.TempDir())
			if !errors.Is(err, disk.ErrNoSpace) || !errors.Is(err, full) || !strings.Contains(err.Error(), full.Error()) {
				t.Errorf("%v at %s: got error %v, want %v", full, op, err, disk.ErrNoSpace)
			}
		}
	}
	for _, other := range []error{nil, syscall.EIO, fmt.Errorf("x")} {
		if got := disk.AsNoSpace(other); got != other {
			t.Errorf("%v became %v", other, got)
		}
	}
}

func steps(t *testing.T) map[disk.Op]bool {
	seen := map[disk.Op]bool{}
	err := allWrites(disk.FS{Hook: func(op disk.Op, _ string) (bool, error) { seen[op] = true; return true, nil }}, t.TempDir())
	if err != nil || len(seen) != 8 {
		t.Fatalf("got %d kinds of steps and error %v", len(seen), err)
	}
	return seen
}

// allWrites changes a directory in each way, until one fails.
func allWrites(f disk.FS, dir string) error {
	sub, a, b := filepath.Join(dir, "sub"), filepath.Join(dir, "a"), filepath.Join(dir, "b")
	for _, change := range []func() error{
		func() error { return f.MkdirAll(sub, 0o700) },
		func() error { return f.CreateFile(a, []byte("x"), 0o600) },
		func() error { return f.WriteFile(a, []byte("y"), 0o600) },
		func() error { return f.Link(a, b) },
		func() error { return f.Rename(a, filepath.Join(sub, "a")) },
		func() error { return f.Remove(b) },
	} {
		if err := change(); err != nil {
			return err
		}
	}
	return nil
}

// TestCheckSpace: as much as is free may be used, less the reserve.
func TestCheckSpace(t *testing.T) {
	dir := t.TempDir()
	if err := disk.CheckSpace(dir, 1, 0); err != nil {
		t.Error(err)
	}
	for _, c := range [][2]int64{{math.MaxInt64, 0}, {1, math.MaxInt64}} {
		err := disk.CheckSpace(dir, c[0], c[1])
		if !errors.Is(err, disk.ErrNoSpace) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%d bytes beside %d: got error %v, want %v", c[0], c[1], err, disk.ErrNoSpace)
		}
	}
	if err := disk.CheckSpace(filepath.Join(dir, "missing"), 1, 0); err == nil || errors.Is(err, disk.ErrNoSpace) {
		t.Errorf("a missing directory: got error %v", err)
	}
	space, err := disk.SpaceOf(dir)
	if err != nil || space.Free <= 0 || space.Size < space.Free || space.Files < space.FreeFiles || space.ReadOnly {
		t.Errorf("got %+v and error %v", space, err)
	}
}
