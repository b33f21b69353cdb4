// Package pace holds pauses and speeds: to sleep with a context, the pauses after failures, the pause that a server asks for, how fast
// something comes, how fast it may, and lanes, which keep slow work from delaying the rest.
package pace

import (
	"context"
	"time"
)

// Sleep waits for d, or until ctx ends, whose error it then returns. A d that is not positive is no pause.
func Sleep(ctx context.Context, d time.Duration) error { return SleepUntil(ctx, d, nil) }

// SleepUntil is Sleep, and ends early, with nil, once wake can be received from.
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

// Backoff is the pauses after failures in a row: First, and then twice as long each time, up to Most.
type Backoff struct{ First, Most time.Duration }

// Pause returns the pause after so many failures in a row, 0 after none.
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

// Spread returns between half of the pause and all of it, for a random number from 0 to below 1. Those that were cut
// off together then don't come back together.
func (b Backoff) Spread(failures int, random float64) time.Duration {
	half := b.Pause(failures) / 2
	return half + time.Duration(random*float64(half))
}
