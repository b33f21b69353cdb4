package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/testworld"
)

// mountTmpfs returns the directory of a file system in memory of that size, "" where mounting isn't allowed.
func mountTmpfs(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, options); err != nil {
		testworld.Remark(t, fmt.Sprintf("NOT TESTED on a real disk that is full or read-only: mounting a tmpfs: %v", err))
		return ""
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill takes all that is left of a disk, and returns what gives it back.
func fill(t *testing.T, dir string) (empty func()) {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1 << 20, 4096, 1} {
		for err == nil {
			_, err = f.Write(make([]byte, size))
		}
		wantErr(t, err, unix.ENOSPC)
		err = nil
	}
	mustClose(t, f)
	return func() { mustDo(t, os.Remove(path)) }
}

// TestFullDisk refuses an archive that doesn't fit before the first byte, and loses nothing.
func TestFullDisk(t *testing.T) {
	dir := mountTmpfs(t, "size=6m")
	if dir == "" {
		t.Skip("injected errors are tested by TestFaultAtEveryStep")
	}
	o := newOrigin(t)
	s := mustOpen(t, o.config(filepath.Join(dir, "R")))
	mustPublish(t, s, o.lists(small))
	old := s.Repository()
	next := o.lists(small, huge)
	err := publish(s, next)
	wantErr(t, err, disk.ErrNoSpace)
	for _, figure := range []string{s.Dir(), "are needed", "are free", "are reserved"} {
		if !strings.Contains(err.Error(), figure) {
			t.Errorf("%q doesn't say %q", err, figure)
		}
	}
	wantEmpty(t, s.path(stagingDir))
	o.repo = old
	next = o.lists(small, large)
	empty := fill(t, dir)
	wantErr(t, publish(s, next), disk.ErrNoSpace)
	if s.Repository() != old {
		t.Error("another repository is served")
	}
	o.check(s)
	empty()
	in := mustIngest(t, s, release(t, next, large))
	mustWrite(t, in, large, 1)
	empty = fill(t, dir)
	mustWrite(t, in, large, 0) // has its space
	wantErr(t, in.Commit(t.Context()), disk.ErrNoSpace)
	wantErr(t, in.Close(), disk.ErrNoSpace)
	o.check(s)
	empty()
	in = mustIngest(t, s, release(t, next, large))
	_, err = in.copyBlocks(t.Context(), strings.NewReader(string(content(large))), false)
	mustDo(t, errors.Join(err, in.Commit(t.Context()), in.Close()))
	empty = fill(t, dir)
	wantErr(t, s.Commit(t.Context(), next), disk.ErrNoSpace)
	o.check(s)
	empty()
	mustPublish(t, s, next)
	o.check(s)
}

// TestHoleInFullDisk is a disk that can't set space aside: a block finds it full.
func TestHoleInFullDisk(t *testing.T) {
	dir := mountTmpfs(t, "size=6m")
	if dir == "" {
		t.Skip("needs a disk of its own")
	}
	o := newOrigin(t)
	s := mustOpen(t, o.config(filepath.Join(dir, "R")))
	mustPublish(t, s, o.lists(small))
	next := o.lists(small, large)
	in := mustIngest(t, s, release(t, next, large))
	mustDo(t, unix.Fallocate(int(in.partial.file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, int64(len(content(large)))))
	empty := fill(t, dir)
	wantErr(t, in.WriteBlock(0, blockOf(content(large), 0)), disk.ErrNoSpace)
	wantMissing(t, in, 0, 1)
	o.check(s)
	empty()
	mustWrite(t, in, large, 0)
	mustWrite(t, in, large, 1)
	mustDo(t, errors.Join(in.Commit(t.Context()), in.Close()))
	mustPublish(t, s, next)
	o.check(s)
}

// TestReserve leaves so much of the disk to others.
func TestReserve(t *testing.T) {
	o, s := newStore(t, small)
	s.c.Reserve = 1 << 60
	wantErr(t, publish(s, o.lists(small, large)), disk.ErrNoSpace)
	wantEmpty(t, s.path(stagingDir))
	o.check(s)
}

// TestReadOnlyMedia can be read and not be opened for writing.
func TestReadOnlyMedia(t *testing.T) {
	dir := mountTmpfs(t, "size=16m")
	if dir == "" {
		t.Skip("needs a disk of its own")
	}
	o := newOrigin(t)
	c := o.config(filepath.Join(dir, "R"))
	s := mustOpen(t, c)
	mustPublish(t, s, o.lists(small, large))
	mustDo(t, os.Remove(s.blocksPath(release(t, o.repo, large).Digest())))
	mustClose(t, s)
	if err := unix.Mount("none", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), c)
	wantErr(t, err, unix.EROFS)
	r, err := OpenReadOnly(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	o.check(r)
	if blocks, err := r.Blocks(release(t, o.repo, large).Update()); err != nil || len(blocks) != 2 {
		t.Errorf("%d blocks, %v", len(blocks), err)
	}
}
