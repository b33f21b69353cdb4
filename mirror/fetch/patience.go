package fetch

import (
	"context"
	"sync"
	"time"
)

// patience ends a call that waited for its upstreams for a span of time and got too little for it: less than the
// stall limit asks for in one window. The time that a slow disk or our own rate cap takes does not count. Bytes that
// were of no use don't count either, see takeBack. A patience whose span is not above 0 ends nothing, and leaves no
// time to wait for a pause.
type patience struct {
	span   time.Duration
	enough int64 // bytes
	end    context.CancelCauseFunc

	mu      sync.Mutex
	timer   *time.Timer
	got     int64
	spent   time.Duration // in waiting, since renew
	earned  time.Duration // of spent, by what came
	waiting int           // requests and pauses
	since   time.Time     // when waiting began, where it isn't 0
}

type patienceKey struct{}

// withPatience returns a context that ends, with ErrUnavailable, when Config.Patience does. The caller calls end.
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

// patienceOf returns that of the call to which ctx belongs; nil: of none.
func patienceOf(ctx context.Context) *patience {
	p, _ := ctx.Value(patienceKey{}).(*patience)
	return p
}

// begin says that an upstream is waited for from now on. Of no call it says nothing.
func (p *patience) begin() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting++; p.waiting == 1 {
		p.since = time.Now()
	}
}

// came says that something came, or nothing, after begin.
func (p *patience) came(bytes int) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.take()
	p.waiting--
	if p.got += int64(bytes); p.got >= p.enough {
		p.got, p.earned = 0, p.spent
	}
}

// take adds what was waited until now. The caller holds mu.
func (p *patience) take() {
	now := time.Now()
	if p.waiting > 0 {
		p.spent += now.Sub(p.since)
	}
	p.since = now
}

// renew begins anew.
func (p *patience) renew() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.take()
	p.got, p.spent, p.earned = 0, 0, 0
}

// takeBack has what came count for nothing: it was no more than what came before. Else two upstreams that each
// send the same half of a block, in turn, would go on for ever.
func (p *patience) takeBack() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.got, p.earned = 0, 0
}

// left returns for how long an upstream can be waited for.
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
