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

// codec is one way to compress. It works in the goroutine of its caller, and its settings never change: each is part
// of what makes an archive reproducible.
type codec struct {
	compress   func(io.Writer) (io.WriteCloser, error) // closing it does not close what it writes to
	decompress func(r *bufio.Reader, window uint64) (io.ReadCloser, error)
}

var codecs = map[update.Format]codec{
	update.TarBzip2: {
		func(w io.Writer) (io.WriteCloser, error) {
			return bzip2.NewWriter(w, &bzip2.WriterConfig{Level: bzip2.BestCompression})
		},
		func(r *bufio.Reader, _ uint64) (io.ReadCloser, error) { return bzip2.NewReader(r, nil) },
	},
	update.TarGzip: {
		func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriterLevel(w, gzip.BestCompression) },
		func(r *bufio.Reader, _ uint64) (io.ReadCloser, error) {
			z, err := gzip.NewReader(r)
			if err != nil {
				return nil, err // not a nil *gzip.Reader in an interface
			}
			return z, nil
		},
	},
	update.TarZstd: {
		func(w io.Writer) (io.WriteCloser, error) {
			return zstd.NewWriter(w,
				zstd.WithEncoderConcurrency(1),
				zstd.WithEncoderLevel(zstd.SpeedBestCompression),
				zstd.WithWindowSize(zstdWindow),
				zstd.WithEncoderCRC(true))
		},
		newZstdReader,
	},
}

// codecOf returns the codec of a format.
func codecOf(f update.Format) (codec, error) {
	c, ok := codecs[f]
	if !ok {
		return codec{}, fmt.Errorf("unknown format %q", f)
	}
	return c, nil
}

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
