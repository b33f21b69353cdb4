package pace

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Burst is how many bytes pass a Cap at once, at most, and so how many a reader that is capped should read at once.
const Burst = 256 << 10

// Cap bounds how many bytes per second pass, of all together that share it. A nil *Cap lets any number pass.
type Cap struct{ limiter *rate.Limiter }

// NewCap returns a cap of so many bytes per second, nil for 0. Nothing is saved up at the beginning, and later no more than a
// second's share.
func NewCap(perSecond int64) *Cap {
	if perSecond <= 0 {
		return nil
	}
	burst := int(min(perSecond, Burst))
	c := &Cap{rate.NewLimiter(rate.Limit(perSecond), burst)}
	c.limiter.AllowN(time.Now(), burst)
	return c
}

// Wait waits until n more bytes may pass, or until ctx ends or will end before: then it returns an error.
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

// Progress is bytes, and the time that was spent in waiting for them.
type Progress struct {
	Bytes int64
	Spent time.Duration
}

// Add adds what came beside.
func (p *Progress) Add(q Progress) { p.Bytes, p.Spent = p.Bytes+q.Bytes, p.Spent+q.Spent }

// Rate returns bytes per second.
func (p Progress) Rate() float64 { return float64(p.Bytes) / max(p.Spent.Seconds(), 0.001) }

// Meter measures how fast something comes. Only the time counts that is spent in waiting for it: not that of the
// disk, nor that of a cap.
type Meter struct {
	mu    sync.Mutex
	now   Progress
	since time.Time // when the wait began that is under way; zero: none is
}

// Begin says that something is waited for from now on.
func (m *Meter) Begin() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.since = time.Now()
}

// End says that so many bytes came after Begin.
func (m *Meter) End(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now.Add(Progress{int64(n), time.Since(m.since)})
	m.since = time.Time{}
}

// Take returns what came since the last call.
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

// Stall watches over what should come with at least so many bytes per second, averaged over a window of waiting.
type Stall struct {
	Meter // which its user keeps

	least   int64
	window  time.Duration
	stalled func(got float64)

	mu    sync.Mutex
	timer *time.Timer
	seen  Progress // in this window
	over  bool
}

// WatchStall calls stalled, once, where fewer bytes per second come than least. The caller stops it.
func WatchStall(least int64, window time.Duration, stalled func(got float64)) *Stall {
	s := &Stall{least: least, window: window, stalled: stalled}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer = time.AfterFunc(s.window, s.judge)
	return s
}

// judge looks whether a window is full, and if so, whether enough came in it.
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
