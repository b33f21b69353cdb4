package fetch

import (
	"context"
	"sync"
	"time"
)

// patience ends a call that has waited for its upstreams for span and got too little: less than the stall limit
// demands in one window. Only waiting for upstreams counts, not the time of a slow disk or of our own rate cap.
// Useless bytes don't count, see takeBack. A patience with a span of 0 or less ends nothing, and leaves no time to
// wait for a pause.
type patience struct {
	span   time.Duration
	enough int64 // bytes
	end    context.CancelCauseFunc

	mu      sync.Mutex
	timer   *time.Timer
	got     int64
	spent   time.Duration // time waited since renew
	earned  time.Duration // the part of spent that enough bytes have paid for
	waiting int           // requests and pauses
	since   time.Time     // when waiting began, where it isn't 0
}

type patienceKey struct{}

// withPatience returns a context that ends, with ErrUnavailable, when Config.Patience is used up. The caller must
// call end.
func (c *Client) withPatience(ctx context.Context) (context.Context, *patience) {
	ctx, cancel := context.WithCancelCause(ctx)
	p := &patience{span: c.c.Patience, end: cancel}
	if p.span <= 0 {
		return ctx, p
	}
	rate := c.c.StallRate
	if c.c.Rate > 0 {
		rate = min(rate, c.c.Rate/2)
	}
	p.enough = max(1, int64(float64(rate)*min(c.c.StallWindow, p.span).Seconds()))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = time.AfterFunc(p.span, p.judge)
	context.AfterFunc(ctx, func() { p.timer.Stop() })
	return context.WithValue(ctx, patienceKey{}, p), p
}

// patienceOf returns the patience of the call that ctx belongs to, one without end if there is none.
func patienceOf(ctx context.Context) *patience {
	if p, ok := ctx.Value(patienceKey{}).(*patience); ok {
		return p
	}
	return new(patience)
}

// begin starts a wait for an upstream.
func (p *patience) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting++; p.waiting == 1 {
		p.since = time.Now()
	}
}

// came ends a wait that begin started; bytes came, or none.
func (p *patience) came(bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.take()
	p.waiting--
	if p.got += int64(bytes); p.got >= p.enough {
		p.got, p.earned = 0, p.spent
	}
}

// take adds the time waited until now to spent. The caller holds mu.
func (p *patience) take() {
	now := time.Now()
	if p.waiting > 0 {
		p.spent += now.Sub(p.since)
	}
	p.since = now
}

// renew starts over with the whole span.
func (p *patience) renew() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.take()
	p.got, p.spent, p.earned = 0, 0, 0
}

// takeBack discounts the bytes that came, because they only repeated earlier ones. Otherwise two upstreams that send
// the same half of a block in turn would keep the call alive for ever.
func (p *patience) takeBack() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.got, p.earned = 0, 0
}

// left returns how much longer the call may wait.
func (p *patience) left() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.take()
	return max(0, p.span-p.spent+p.earned)
}

func (p *patience) judge() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.take()
	if left := p.span - p.spent + p.earned; left > 0 {
		p.timer.Reset(left)
		return
	}
	p.end(errSilent(p.span))
}
