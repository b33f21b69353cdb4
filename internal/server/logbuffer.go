package server

import (
	"bufio"
	"io"
	"sync"
	"time"
)

const (
	// logPause is how long the line of a request may wait for others: operators don't notice it, and at a high rate
	// hundreds of lines share one write.
	logPause = 10 * time.Millisecond

	// logWaiting is how many bytes of lines may wait.
	logWaiting = 64 << 10
)

// A logBuffer collects the lines of requests that come within a pause into one write, since a system call costs more than
// a line. Lines keep their order and are never split. A kill loses the lines of requests that wait.
//
// Write itself returns when its line and all lines that waited before it are written.
type logBuffer struct {
	out io.Writer

	mu      sync.Mutex
	waiting *bufio.Writer
	pause   *time.Timer // writes what waits
	closed  bool        // nothing waits any more
}

func newLogBuffer(out io.Writer) *logBuffer {
	b := &logBuffer{out: out, waiting: bufio.NewWriterSize(out, logWaiting)}
	b.mu.Lock() // the timer may fire before it stands in its field
	defer b.mu.Unlock()
	b.pause = time.AfterFunc(logPause, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		_ = b.flush() // log/slog drops such errors too
	})
	return b
}

// Write writes what waits, and then p.
func (b *logBuffer) Write(p []byte) (int, error) { return b.write(p, false) }

// requests returns a writer for lines that may wait.
func (b *logBuffer) requests() io.Writer { return requestLines{b} }

type requestLines struct{ buffer *logBuffer }

// Write writes a line, which may wait.
func (r requestLines) Write(p []byte) (int, error) { return r.buffer.write(p, true) }

func (b *logBuffer) write(p []byte, mayWait bool) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(p) > b.waiting.Available() { // a line is not cut in two
		if err := b.flush(); err != nil {
			return 0, err
		}
	}
	if b.waiting.Buffered() == 0 {
		b.pause.Reset(logPause)
	}
	n, err := b.waiting.Write(p)
	if !mayWait || b.closed || err != nil {
		err = b.flush()
	}
	return n, err
}

// flush writes what waits. mu is held.
func (b *logBuffer) flush() error {
	b.pause.Stop()
	err := b.waiting.Flush()
	if err != nil {
		b.waiting.Reset(b.out) // else one error, such as a full disk, would end the log for ever
	}
	return err
}

// close writes what waits. Later lines are written at once.
func (b *logBuffer) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	_ = b.flush() // log/slog drops such errors too
}
