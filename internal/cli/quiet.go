package cli

import (
	"io"
	"sync/atomic"
)

// results writes results until Silence is called.
type results struct {
	io.Writer
	silent atomic.Bool
}

// Fd returns the file descriptor of the writer, or one of no file.
func (r *results) Fd() uintptr {
	if f, ok := r.Writer.(interface{ Fd() uintptr }); ok {
		return f.Fd()
	}
	return ^uintptr(0)
}

// Silenceable returns a writer of results, for Streams.Out, that Streams.Silence silences.
func Silenceable(w io.Writer) io.Writer { return &results{Writer: w} }

func (r *results) Write(p []byte) (int, error) {
	if r.silent.Load() {
		return len(p), nil
	}
	return r.Writer.Write(p)
}

// Silence drops the results that are written from now on, and the display of progress, also that of copies of s. Messages
// stay. Out must be Silenceable.
func (s Streams) Silence() {
	if r, ok := s.Out.(*results); ok {
		r.silent.Store(true)
	}
}

// Silenced reports whether Silence was called.
func (s Streams) Silenced() bool {
	r, ok := s.Out.(*results)
	return ok && r.silent.Load()
}
