package archive

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/dsnet/compress/bzip2"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/openpowerquality/box-update-server/update"
)

// zstdWindow is the window in bytes with which archives are written, and the largest that is read by default: every
// decoder supports it, and a box has the memory.
const zstdWindow = 8 << 20

// compress returns a writer of a format, which compresses in the goroutine of its caller. Closing it does not close w. Its
// settings never change: each is part of what makes an archive reproducible. It stands apart from decompress, so that a
// program that only unpacks links no compressor.
func compress(f update.Format, w io.Writer) (io.WriteCloser, error) {
	switch f {
	case update.TarBzip2:
		return bzip2.NewWriter(w, &bzip2.WriterConfig{Level: bzip2.BestCompression})
	case update.TarGzip:
		return gzip.NewWriterLevel(w, gzip.BestCompression)
	case update.TarZstd:
		return zstd.NewWriter(w,
			zstd.WithEncoderConcurrency(1),
			zstd.WithEncoderLevel(zstd.SpeedBestCompression),
			zstd.WithWindowSize(zstdWindow),
			zstd.WithEncoderCRC(true))
	}
	return nil, unknownFormat(f)
}

// decompress returns a reader of what r holds in a format, which decompresses in the goroutine of its caller. A zstd window
// of more than window bytes is refused.
func decompress(f update.Format, r *bufio.Reader, window uint64) (io.ReadCloser, error) {
	switch f {
	case update.TarBzip2:
		return bzip2.NewReader(r, nil)
	case update.TarGzip:
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, err // not a nil *gzip.Reader in an interface
		}
		return z, nil
	case update.TarZstd:
		return newZstdReader(r, window)
	}
	return nil, unknownFormat(f)
}

func unknownFormat(f update.Format) error { return fmt.Errorf("unknown format %q", f) }

func newZstdReader(r *bufio.Reader, window uint64) (io.ReadCloser, error) {
	if head, _ := r.Peek(zstd.HeaderMaxSize); windowOf(head) > window { // if that can't be read, reading says so
		return nil, tooWide(fmt.Sprintf("%d bytes", windowOf(head)), window)
	}
	d, err := zstd.NewReader(r,
		zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(window))
	if err != nil {
		return nil, err
	}
	return windowed{d.IOReadCloser(), window}, nil
}

// windowOf returns the window that a zstd frame needs, 0 if head does not begin one.
func windowOf(head []byte) uint64 {
	var h zstd.Header
	switch err := h.Decode(head); {
	case err != nil:
		return 0
	case h.SingleSegment:
		return h.FrameContentSize
	}
	return h.WindowSize
}

func tooWide(window string, limit uint64) error {
	return fmt.Errorf("%w: its zstd window is %s, and the limit is %d: compress it with boxsign build, or with zstd without --long and --ultra", errLimit, window, limit)
}

// windowed makes the error name the limit if a later frame exceeds it.
type windowed struct {
	io.ReadCloser
	limit uint64
}

func (w windowed) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if errors.Is(err, zstd.ErrWindowSizeExceeded) {
		err = tooWide("larger", w.limit)
	}
	return n, err
}

// noStream reports whether a decompressor found something else where a stream may begin.
func noStream(err error) bool {
	return err != nil && (errors.Is(err, gzip.ErrHeader) || errors.Is(err, zstd.ErrMagicMismatch) || strings.Contains(err.Error(), "invalid stream magic"))
}

// calm turns a panic of a decompressor, which reads untrusted bytes, into an error.
type calm struct{ io.Reader }

func (c calm) Read(p []byte) (n int, err error) {
	defer func() {
		if recover() != nil {
			n, err = 0, errors.New("the decompressor panicked")
		}
	}()
	return c.Reader.Read(p)
}
