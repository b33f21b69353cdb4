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

// zstdWindow is the window in bytes that archives are written with, and the largest that is read by
// default: what every decoder supports, and little enough for a box.
const zstdWindow = 8 << 20

// compressor returns a writer that compresses to w with settings that never change: each is part of
// what makes an archive reproducible. Closing it does not close w.
func compressor(w io.Writer, f update.Format) (io.WriteCloser, error) {
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
	return nil, fmt.Errorf("compress: unknown format %q", f)
}

// decompressor returns a reader of what the compressed r holds. It works in the goroutine that reads.
func decompressor(r *bufio.Reader, f update.Format, window uint64) (io.ReadCloser, error) {
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
		if head, _ := r.Peek(zstd.HeaderMaxSize); windowOf(head) > window { // what can't be read, reading tells
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
	return nil, fmt.Errorf("decompress: unknown format %q", f)
}

// windowOf returns the window that a zstd frame wants, 0 where none begins here.
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

// windowed names the limit where a later frame exceeds it.
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

// noStream reports whether an error of a decompressor says that what stands where a stream may begin is none.
func noStream(err error) bool {
	return err != nil && (errors.Is(err, gzip.ErrHeader) || errors.Is(err, zstd.ErrMagicMismatch) || strings.Contains(err.Error(), "invalid stream magic"))
}

// calm turns a panic of a decompressor, which reads whatever comes, into an error.
type calm struct{ io.Reader }

func (c calm) Read(p []byte) (n int, err error) {
	defer func() {
		if recover() != nil {
			n, err = 0, errors.New("the decompressor panicked")
		}
	}()
	return c.Reader.Read(p)
}
