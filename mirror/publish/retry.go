package publish

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/openpowerquality/box-update-server/internal/pace"
)

// The pauses after failures in a row: between half and all of a time that doubles.
const (
	firstPause = 250 * time.Millisecond
	lastPause  = 15 * time.Second
)

// patience ends when nothing went forward for too long.
type patience struct {
	limit time.Duration

	mu   sync.Mutex
	last time.Time // when something went forward
}

func newPatience(limit time.Duration) *patience { return &patience{limit: limit, last: time.Now()} }

func (p *patience) renew() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = time.Now()
}

func (p *patience) left() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.limit - time.Since(p.last)
}

// retry calls f until it succeeds, its error lasts, or the patience ends.
func (r *Remote) retry(ctx context.Context, p *patience, f func() error) error {
	for try := 0; ; try++ {
		err := f()
		if err == nil {
			p.renew()
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if r.lasting(err) {
			return err
		}
		wait := pause(try, err)
		if wait > p.left() {
			return fmt.Errorf("given up after %v without a step forward: %w", p.limit, err)
		}
		if r.c.Waiting != nil {
			r.c.Waiting(err, wait)
		}
		if pace.Sleep(ctx, wait) != nil {
			return context.Cause(ctx)
		}
	}
}

// pause returns how long to wait after the failure of that number, counted from 0: no shorter than
// the server asks for.
func pause(try int, err error) time.Duration {
	most := min(firstPause<<min(try, 10), lastPause)
	wait := most/2 + rand.N(most/2+1)
	var e *Error
	if errors.As(err, &e) && e.retryAfter > wait {
		// Whoever was sent away together does not come back together.
		wait = e.retryAfter + rand.N(firstPause)
	}
	return wait
}
