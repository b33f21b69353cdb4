package server

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// writes are what a stream was given, write by write.
type writes struct {
	mu    sync.Mutex
	all   []string
	fails bool // each write does
}

func (w *writes) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fails {
		return 0, errors.New("no room")
	}
	w.all = append(w.all, string(p))
	return len(p), nil
}

// are fails the test unless there were these writes, and no other.
func (w *writes) are(t *testing.T, want ...string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if got := fmt.Sprintf("%q", w.all); got != fmt.Sprintf("%q", want) {
		t.Errorf("got %s, want %q", got, want)
	}
}

func line(t *testing.T, w io.Writer, text string) {
	t.Helper()
	if n, err := w.Write([]byte(text + "\n")); err != nil || n != len(text)+1 {
		t.Errorf("wrote %d bytes, %v", n, err)
	}
}

// Lines that come within a pause go out together.
func TestLogBuffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out writes
		b := newLogBuffer(&out)
		defer b.close()
		line(t, b.requests(), "1")
		time.Sleep(logPause / 2)
		line(t, b.requests(), "2")
		out.are(t)
		time.Sleep(logPause / 2)
		synctest.Wait()
		out.are(t, "1\n2\n")
		time.Sleep(10 * logPause)
		line(t, b.requests(), "3")
		out.are(t, "1\n2\n")
		time.Sleep(logPause)
		synctest.Wait()
		out.are(t, "1\n2\n", "3\n")
	})
}

// After a write that failed the log goes on.
func TestLogBufferAfterAnError(t *testing.T) {
	var out writes
	b := newLogBuffer(&out)
	out.fails = true
	if _, err := b.Write([]byte("lost\n")); err == nil {
		t.Error("no error")
	}
	out.fails = false
	line(t, b, "here")
	out.are(t, "here\n")
	b.close()
}

// What is no line of a request doesn't wait, and doesn't overtake any.
func TestLogBufferInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out writes
		b := newLogBuffer(&out)
		line(t, b.requests(), "request 1")
		line(t, b.requests(), "request 2")
		line(t, b, "warning")
		out.are(t, "request 1\nrequest 2\nwarning\n")
		line(t, b.requests(), "request 3")
		b.close()
		out.are(t, "request 1\nrequest 2\nwarning\n", "request 3\n")
		line(t, b.requests(), "request 4") // of a download that was cut
		out.are(t, "request 1\nrequest 2\nwarning\n", "request 3\n", "request 4\n")
		b.close()
		time.Sleep(2 * logPause)
		synctest.Wait()
		out.are(t, "request 1\nrequest 2\nwarning\n", "request 3\n", "request 4\n")
	})
}

// However many lines come from however many requests, each is whole and there once, and no write is long.
func TestLogBufferUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const writers, each = 8, 2000
		var out writes
		b := newLogBuffer(&out)
		var all sync.WaitGroup
		for i := range writers {
			all.Go(func() {
				for n := range each {
					line(t, b.requests(), fmt.Sprintf("%d %d %s", i, n, strings.Repeat("x", n%100)))
				}
			})
		}
		all.Wait()
		b.close()
		next, count := [writers]int{}, 0
		for _, w := range out.all {
			if len(w) > logWaiting+200 {
				t.Errorf("a write of %d bytes", len(w))
			}
			for text := range strings.Lines(w) {
				var i, n int
				var rest string
				_, _ = fmt.Sscanf(text, "%d %d %s\n", &i, &n, &rest)
				if n != next[i] || rest != strings.Repeat("x", n%100) {
					t.Fatalf("got %q, want line %d", text, next[i])
				}
				next[i]++
				count++
			}
		}
		if count != writers*each || len(out.all) > 100 {
			t.Errorf("%d lines in %d writes", count, len(out.all))
		}
	})
}

// TestLogBufferWithoutLines lets the pause end before the first line: the race detector sees whether the timer reads what
// newLogBuffer still writes.
func TestLogBufferWithoutLines(t *testing.T) {
	var to writes
	b := newLogBuffer(&to)
	fired := make(chan struct{})
	time.AfterFunc(2*logPause, func() { close(fired) })
	<-fired
	b.close()
	if len(to.all) > 0 {
		t.Errorf("expected no write, got %q", to.all)
	}
}
