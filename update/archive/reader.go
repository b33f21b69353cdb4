package archive

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/readahead"
	"github.com/openpowerquality/box-update-server/update"
)

// source reads the compressed archive and remembers its errors, which are not the archive's fault.
type source struct {
	ctx context.Context
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		s.err = err
		return 0, err
	}
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// stream reads the unpacked tar archive up to a limit.
type stream struct {
	ctx   context.Context
	r     io.Reader
	limit int64
	read  int64
	err   error // what ended it, io.EOF included
}

func (s *stream) Read(p []byte) (int, error) {
	if s.err == nil {
		s.err = s.ctx.Err()
	}
	if s.err != nil {
		return 0, s.err
	}
	if room := s.limit - s.read + 1; int64(len(p)) > room {
		p = p[:room]
	}
	n, err := s.r.Read(p)
	s.read += int64(n)
	if n == 0 || !errors.Is(err, io.EOF) {
		s.err = err // io.EOF stands alone, so that it means that all was read
	}
	if s.read > s.limit {
		s.err = tooLong(s.limit)
		return 0, s.err
	}
	return n, s.err
}

func tooLong(limit int64) error {
	return fmt.Errorf("%w: more than %d bytes unpacked", errLimit, limit)
}

// reader reads an archive entry by entry, in memory that the Limits bound.
type reader struct {
	source  *source
	zip     io.ReadCloser
	ahead   io.ReadCloser // nil if the goroutine of the caller reads the archive
	stream  *stream
	tar     *tar.Reader
	tree    *tree
	limits  Limits
	entries int
	content int64 // bytes, by the headers so far
}

// open begins to read the archive of that name. The caller closes the reader, whatever the error is.
func open(ctx context.Context, r io.Reader, name update.Name, limits Limits) (*reader, error) {
	limits = limits.withDefaults()
	a := &reader{
		source: &source{ctx: ctx, r: r},
		tree:   newTree(name.Top(), limits),
		limits: limits,
	}
	var err error
	a.zip, err = decompress(name.Format(), bufio.NewReaderSize(a.source, 64<<10), limits.Window)
	if errors.Is(err, io.EOF) {
		return a, io.ErrUnexpectedEOF // an empty file is no archive without entries
	}
	if err != nil {
		return a, err
	}
	a.stream = &stream{ctx: ctx, r: calm{a.zip}, limit: limits.Bytes}
	a.tar = tar.NewReader(a.stream)
	return a, nil
}

// How much is decompressed in advance, so that decompressing and writing happen at the same time.
const (
	aheadChunks = 4
	aheadChunk  = 256 << 10 // bytes
)

// readAhead makes another goroutine read and decompress from now on.
func (a *reader) readAhead() (err error) {
	if a.ahead, err = readahead.NewReaderSize(a.stream.r, aheadChunks, aheadChunk); err == nil {
		a.stream.r = a.ahead
	}
	return err
}

// close releases the resources of the reader. It does not close the source.
func (a *reader) close() {
	if a.ahead != nil {
		a.ahead.Close() // waits until nothing is read any more
	}
	if a.zip != nil {
		a.zip.Close() // reports again what reading reported
	}
}

// next returns the next entry; its content is read from a.tar. After the last entry of a complete archive the error
// is io.EOF, else it says what is wrong with the archive.
func (a *reader) next() (Entry, error) {
	h, err := a.tar.Next()
	if errors.Is(err, io.EOF) {
		return Entry{}, a.end()
	}
	if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
		return Entry{}, err
	}
	if a.entries++; a.entries > a.limits.Entries {
		return Entry{}, a.tree.tooMany()
	}
	if h.Size > a.limits.Bytes-a.content {
		return Entry{}, tooLong(a.limits.Bytes)
	}
	a.content += h.Size
	e := newEntry(h)
	if err := a.tree.add(h); errors.Is(err, errLimit) {
		return Entry{}, err
	} else if err != nil {
		e.Problem = err.Error()
	}
	return e, nil
}

// end checks what follows the last entry.
func (a *reader) end() error {
	if errors.Is(a.stream.err, io.EOF) {
		return errors.New("its end is missing")
	}
	buf := make([]byte, 32<<10)
	for {
		n, err := a.stream.Read(buf)
		for _, b := range buf[:n] {
			if b != 0 {
				return errTrailing
			}
		}
		switch {
		case noStream(err):
			return errTrailing
		case errors.Is(err, io.ErrUnexpectedEOF):
			return fmt.Errorf("%w: it is cut within its last bytes, or some follow its end", err)
		case err != nil:
			return err
		}
	}
}

// errTrailing says that something follows a complete archive.
var errTrailing = errors.New("bytes follow its end: make it anew with boxsign build, or with tar alone, and append nothing")

// outside returns the error that is not the archive's fault, nil if there is none. A reader that reads ahead must be
// closed before.
func (a *reader) outside() error {
	if a.source.err != nil {
		return a.source.err
	}
	return a.source.ctx.Err()
}
