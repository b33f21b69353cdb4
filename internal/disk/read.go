package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

var (
	// ErrTooLong says that there are more bytes than a read takes.
	ErrTooLong = errors.New("too long")

	// ErrNotRegular says that a path leads to something else than a regular file.
	ErrNotRegular = errors.New("no regular file")
)

// sentence is an error with words of its own that is a kind of error, too.
type sentence struct {
	text string
	kind error
}

func (e *sentence) Error() string { return e.text }
func (e *sentence) Unwrap() error { return e.kind }

// ReadFile reads a file that a person names, which may be a pipe. Where it has more than limit bytes the error is
// ErrTooLong.
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

// ReadRegular reads a file that programs write, as OpenRegular opens it. Where it has more than limit bytes the error
// is ErrTooLong.
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

// OpenRegular opens a file for reading. A symbolic link, and what else is no regular file, is ErrNotRegular. A pipe is
// not waited for.
func OpenRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, notRegular(path)
	}
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
	return &sentence{path + ": expected a regular file", ErrNotRegular}
}

// readOpen is ReadAll for a file, whose size tells how large a buffer to begin with.
func readOpen(f *os.File, limit int64) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	// With one byte to spare, the read that finds the end needs no larger buffer.
	return readAll(f, limit, min(info.Size(), limit)+bytes.MinRead)
}

// ReadAll reads to the end of r. Where there are more than limit bytes the error is ErrTooLong, and no more than one
// byte beyond them was read.
func ReadAll(r io.Reader, limit int64) ([]byte, error) { return readAll(r, limit, bytes.MinRead) }

func readAll(r io.Reader, limit, size int64) ([]byte, error) {
	var b bytes.Buffer
	b.Grow(int(size))
	if _, err := b.ReadFrom(io.LimitReader(r, limit+1)); err != nil {
		return nil, err
	}
	if int64(b.Len()) > limit {
		return nil, &sentence{fmt.Sprintf("expected at most %d bytes, got more", limit), ErrTooLong}
	}
	return b.Bytes(), nil
}

// Glob returns the paths below dir that match a pattern, as filepath.Glob does, ascending; dir itself is no
// pattern, whatever characters are in its name. Errors of the disk are ignored, as filepath.Glob does.
func Glob(dir, pattern string) ([]string, error) {
	names, err := fs.Glob(os.DirFS(dir), pattern)
	for i, name := range names {
		names[i] = filepath.Join(dir, filepath.FromSlash(name))
	}
	return names, err
}
