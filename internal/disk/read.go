package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/openpowerquality/box-update-server/internal/explain"
)

var (
	// ErrTooLong says that there are more bytes than the limit of a read.
	ErrTooLong = errors.New("too long")

	// ErrNotRegular says that a path leads to something other than a regular file.
	ErrNotRegular = errors.New("no regular file")
)

// ReadFile reads a file that a person names, which may be a pipe. The error is ErrTooLong if it has more than limit bytes.
func ReadFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // opened for reading
	b, err := readOpen(f, limit)
	if errors.Is(err, ErrTooLong) {
		return nil, fmt.Errorf("%s: %w: is it the right file?", path, err)
	}
	return b, err
}

// ReadRegular reads a file that programs write, as OpenRegular opens it. The error is ErrTooLong if it has more than limit
// bytes.
func ReadRegular(path string, limit int64) ([]byte, error) {
	f, err := OpenRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // opened for reading
	b, err := readOpen(f, limit)
	if errors.Is(err, ErrTooLong) {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, err
}

// OpenRegular opens a regular file for reading. The error is ErrNotRegular for anything else, also for a symbolic link. It
// does not wait for the writer of a pipe.
func OpenRegular(path string) (*os.File, error) {
	f, err := OpenNoFollow(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = notRegular(path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func notRegular(path string) error {
	return explain.Reword(ErrNotRegular, path+": expected a regular file")
}

// readOpen is ReadAll for a file. It allocates the buffer by the size of the file.
func readOpen(f *os.File, limit int64) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	// With bytes to spare, the read that finds the end needs no larger buffer.
	return readAll(f, limit, min(info.Size(), limit)+bytes.MinRead)
}

// ReadAll reads to the end of r, but at most one byte more than limit. The error is ErrTooLong if there are more than limit
// bytes.
func ReadAll(r io.Reader, limit int64) ([]byte, error) { return readAll(r, limit, bytes.MinRead) }

func readAll(r io.Reader, limit, size int64) ([]byte, error) {
	var b bytes.Buffer
	b.Grow(int(size))
	if _, err := b.ReadFrom(io.LimitReader(r, limit+1)); err != nil {
		return nil, err
	}
	if int64(b.Len()) > limit {
		return nil, explain.Reword(ErrTooLong, fmt.Sprintf("expected at most %d bytes, got more", limit))
	}
	return b.Bytes(), nil
}

// Glob returns the paths below dir that match a pattern, as filepath.Glob does, in ascending order. Special characters in
// dir have no meaning. Errors of the disk are ignored, as filepath.Glob does.
func Glob(dir, pattern string) ([]string, error) {
	names, err := fs.Glob(os.DirFS(dir), pattern)
	for i, name := range names {
		names[i] = filepath.Join(dir, filepath.FromSlash(name))
	}
	return names, err
}
