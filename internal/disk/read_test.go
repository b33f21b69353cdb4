package disk_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/disk"
)

// TestBoundedReads: what has as many bytes as the limit is read, one more is refused, with its path and the limit.
func TestBoundedReads(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	reads := map[string]func(limit int64) ([]byte, error){
		"ReadFile":    func(limit int64) ([]byte, error) { return disk.ReadFile(path, limit) },
		"ReadRegular": func(limit int64) ([]byte, error) { return disk.ReadRegular(path, limit) },
		"ReadAll": func(limit int64) ([]byte, error) {
			f, err := os.Open(path)
			if err != nil {
				return nil, err
			}
			defer f.Close()
			return disk.ReadAll(f, limit)
		},
	}
	for _, size := range []int{0, 1, 511, 512, 513, 100_000} {
		want := bytes.Repeat([]byte("x"), size)
		if err := os.WriteFile(path, want, 0o600); err != nil {
			t.Fatal(err)
		}
		for name, read := range reads {
			if got, err := read(int64(size)); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s of %d bytes: got %d bytes and error %v", name, size, len(got), err)
			}
			if size == 0 {
				continue
			}
			got, err := read(int64(size) - 1)
			if !errors.Is(err, disk.ErrTooLong) || got != nil || !strings.Contains(err.Error(), "got more") {
				t.Errorf("%s of one byte less than %d: got %d bytes and error %v, want %v", name, size, len(got), err, disk.ErrTooLong)
			}
			if name != "ReadAll" && err != nil && !strings.HasPrefix(err.Error(), path+": ") {
				t.Errorf("%s: the error does not name the file: %v", name, err)
			}
		}
	}
}

// TestNotRegular: links, pipes and directories are refused at once.
func TestNotRegular(t *testing.T) {
	dir := t.TempDir()
	file, link, pipe := filepath.Join(dir, "file"), filepath.Join(dir, "link"), filepath.Join(dir, "pipe")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Symlink(file, link), syscall.Mkfifo(pipe, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, pipe, dir} {
		if _, err := disk.ReadRegular(path, 10); !errors.Is(err, disk.ErrNotRegular) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got error %v, want %v", path, err, disk.ErrNotRegular)
		}
	}
	if _, err := disk.ReadRegular(file, 10); err != nil {
		t.Error(err)
	}
	if _, err := disk.ReadRegular(filepath.Join(dir, "missing"), 10); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: got error %v, want %v", err, os.ErrNotExist)
	}
}
