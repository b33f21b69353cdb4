package pace

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Burst is the most bytes that pass a Cap at once. A capped reader should not read more at once.
const Burst = 256 << 10

// Cap bounds the bytes per second of all transfers that share it. A nil *Cap has no bound.
type Cap struct{ limiter *rate.Limiter }

// NewCap returns a cap of a number of bytes per second, nil for 0. It begins without saved bytes, and saves up at most those
// of one second.
func NewCap(perSecond int64) *Cap {
	if perSecond <= 0 {
		return nil
	}
	burst := int(min(perSecond, Burst))
	c := &Cap{rate.NewLimiter(rate.Limit(perSecond), burst)}
	c.limiter.AllowN(time.Now(), burst)
	return c
}

// Wait waits until n more bytes may pass. It returns an error if ctx ends before, or will end before.
func (c *Cap) Wait(ctx context.Context, n int) error {
	for c != nil && n > 0 {
		some := min(n, c.limiter.Burst())
		if err := c.limiter.WaitN(ctx, some); err != nil {
			return err
		}
		n -= some
	}
	return nil
}

// Progress is a number of bytes, and the time spent waiting for them.
type Progress struct {
	Bytes int64
	Spent time.Duration
}

// Add adds q to p.
func (p *Progress) Add(q Progress) { p.Bytes, p.Spent = p.Bytes+q.Bytes, p.Spent+q.Spent }

// Rate returns bytes per second.
func (p Progress) Rate() float64 { return float64(p.Bytes) / max(p.Spent.Seconds(), 0.001) }

// Meter measures the speed of a transfer. Only the time spent waiting for bytes counts, not that of the disk or of a cap.
type Meter struct {
	mu    sync.Mutex
	now   Progress
	since time.Time // when the current wait began; zero: none
}

// Begin begins a wait.
func (m *Meter) Begin() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.since = time.Now()
}

// End ends the wait since Begin, in which n bytes arrived.
func (m *Meter) End(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now.Add(Progress{int64(n), time.Since(m.since)})
	m.since = time.Time{}
}

// Take returns the progress since the last call.
func (m *Meter) Take() Progress {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if !m.since.IsZero() {
		m.now.Spent += now.Sub(m.since)
		m.since = now
	}
	out := m.now
	m.now = Progress{}
	return out
}

// Stall watches a transfer that should bring at least a number of bytes per second, on average over a window of waiting.
type Stall struct {
	Meter // the user calls its Begin and End

	least   int64
	window  time.Duration
	stalled func(got float64)

	mu    sync.Mutex
	timer *time.Timer
	seen  Progress // in this window
	over  bool
}

// WatchStall calls stalled once, if fewer bytes per second than least arrive in a window. The caller calls Stop.
func WatchStall(least int64, window time.Duration, stalled func(got float64)) *Stall {
	s := &Stall{least: least, window: window, stalled: stalled}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer = time.AfterFunc(s.window, s.judge)
	return s
}

// judge checks at the end of a window whether enough bytes arrived in it.
func (s *Stall) judge() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	s.seen.Add(s.Take())
	if s.seen.Spent < s.window {
		s.timer.Reset(s.window - s.seen.Spent)
		return
	}
	if got := s.seen.Rate(); got < float64(s.least) {
		s.over = true
		s.stalled(got)
		return
	}
	s.seen = Progress{}
	s.timer.Reset(s.window)
}

// Stop ends the watch.
func (s *Stall) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	s.timer.Stop()
}
