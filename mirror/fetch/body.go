package fetch

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// readSize is how many bytes are read at once, at most.
const readSize = 256 << 10

// body is the body of an answer. It is read no faster than the cap allows, and is cut where the upstream
// is slower than the limit.
type body struct {
	ctx     context.Context
	cancel  context.CancelCauseFunc
	from    io.ReadCloser
	limiter *rate.Limiter
	stall   *stall
	race    *race // nil: it is in none
}

func newBody(ctx context.Context, cancel context.CancelCauseFunc, c *Client, from io.ReadCloser) *body {
	return &body{ctx: ctx, cancel: cancel, from: from, limiter: c.limiter, stall: watch(&c.c, cancel), race: raceOf(ctx)}
}

// Read reads at most readSize bytes. The error of a body that was cut for its slowness is
// ErrStalled: net/http returns the cause of the cancellation.
func (b *body) Read(p []byte) (int, error) {
	p = p[:min(len(p), readSize)]
	patience := patienceOf(b.ctx)
	b.stall.meter.begin()
	b.race.begin()
	patience.begin()
	n, err := b.from.Read(p)
	patience.came(n)
	b.race.end(n)
	b.stall.meter.end(n)
	if b.limiter != nil && n > 0 {
		if waitErr := b.limiter.WaitN(b.ctx, n); waitErr != nil {
			return n, waitErr
		}
	}
	return n, err
}

// more reports whether the body goes on where it must be over. Reading its end lets the connection serve
// the next request.
func (b *body) more() bool {
	n, _ := io.ReadFull(b, make([]byte, 1)) // an error is an end as well
	return n > 0
}

func (b *body) close() {
	b.stall.stop()
	b.from.Close() // opened for reading
	b.cancel(nil)
}

// stall cuts an answer that brings fewer bytes per second than the limit, averaged over a window. Only the
// time that is spent in waiting for the upstream counts: not that of the disk and not that of our own cap.
type stall struct {
	rate   int64
	window time.Duration
	cut    context.CancelCauseFunc

	meter meter

	mu    sync.Mutex
	timer *time.Timer
	seen  progress // in this window
	over  bool
}

func watch(c *Config, cut context.CancelCauseFunc) *stall {
	s := &stall{rate: c.StallRate, window: c.StallWindow, cut: cut}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer = time.AfterFunc(s.window, s.judge)
	return s
}

// judge looks whether a window is full, and if so, whether enough came in it.
func (s *stall) judge() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	s.seen.add(s.meter.take())
	if s.seen.spent < s.window {
		s.timer.Reset(s.window - s.seen.spent)
		return
	}
	if got := s.seen.rate(); got < float64(s.rate) {
		s.cut(fmt.Errorf("%w: expected %d bytes per second over %v, got %.1f", ErrStalled, s.rate, s.window, got))
		return
	}
	s.seen = progress{}
	s.timer.Reset(s.window)
}

func (s *stall) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	s.timer.Stop()
}
