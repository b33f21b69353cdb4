// Package pace controls pauses and speeds: sleep with a context, pauses after failures, Retry-After, stalled transfers, caps
// of bytes per second, and lanes, which keep slow work from delaying other work.
package pace

import (
	"context"
	"time"
)

// Sleep waits for d, or until ctx ends, whose error it then returns. A d that is not positive is no pause.
func Sleep(ctx context.Context, d time.Duration) error { return SleepUntil(ctx, d, nil) }

// SleepUntil is Sleep, but returns early if wake delivers a value.
func SleepUntil(ctx context.Context, d time.Duration, wake <-chan struct{}) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-wake:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Backoff is the pauses after consecutive failures: First, and then twice as long each time, up to Most.
type Backoff struct{ First, Most time.Duration }

// Pause returns the pause after a number of consecutive failures, 0 after none.
func (b Backoff) Pause(failures int) time.Duration {
	if failures < 1 {
		return 0
	}
	pause := b.First
	for i := 1; i < failures && pause < b.Most; i++ {
		pause *= 2
	}
	return min(pause, b.Most)
}

// Spread returns at least half of the pause and at most all of it, by a random number from 0 to below 1, so that clients
// that failed together don't return together.
func (b Backoff) Spread(failures int, random float64) time.Duration {
	half := b.Pause(failures) / 2
	return half + time.Duration(random*float64(half))
}
