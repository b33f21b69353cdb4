package server

import (
	"io"
	"sync"
	"time"
)

const (
	// logPause is how long lines of requests may wait for others: too short for who watches the log to notice, and
	// long enough for hundreds of them where they cost anything.
	logPause = 10 * time.Millisecond

	// logWaiting is how many bytes of lines may wait.
	logWaiting = 64 << 10
)

// A logBuffer puts the lines of a log together where many come at once: each write to the system costs more than
// its line. Lines keep their order and are written whole.
//
// What is written to the buffer itself is on its way when Write returns, and all that waited before it. The
// first line of a request is too; those that follow it wait for at most logPause. After a kill they are lost.
type logBuffer struct {
	out io.Writer

	mu      sync.Mutex
	waiting []byte
	pause   *time.Timer // nil: the next line of a request doesn't wait
	closed  bool        // nothing waits any more
}

func newLogBuffer(out io.Writer) *logBuffer { return &logBuffer{out: out} }

// Write writes what waits, and then p.
func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = append(b.waiting, p...)
	return len(p), b.flush()
}

// requests returns where lines of requests are written to.
func (b *logBuffer) requests() io.Writer { return requestLines{b} }

type requestLines struct{ *logBuffer }

// Write writes a line, which may wait.
func (b requestLines) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	first := b.pause == nil
	if first && !b.closed {
		b.pause = time.AfterFunc(logPause, b.ended)
	}
	b.waiting = append(b.waiting, p...)
	if first || len(b.waiting) >= logWaiting {
		return len(p), b.flush()
	}
	return len(p), nil
}

// ended ends a pause. Where lines came meanwhile, the next one begins.
func (b *logBuffer) ended() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting) == 0 || b.closed {
		b.pause = nil
		return
	}
	_ = b.flush() // as with log/slog, nobody can be told
	b.pause.Reset(logPause)
}

// flush writes what waits. mu is held.
func (b *logBuffer) flush() error {
	if len(b.waiting) == 0 {
		return nil
	}
	_, err := b.out.Write(b.waiting)
	b.waiting = b.waiting[:0]
	return err
}

// close writes what waits. What comes later is written at once.
func (b *logBuffer) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed = true; b.pause != nil {
		b.pause.Stop()
		b.pause = nil
	}
	_ = b.flush() // as with log/slog, nobody can be told
}
