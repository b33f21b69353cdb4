// Package pace holds pauses.
package pace

import (
	"context"
	"time"
)

// Sleep waits for d, or until ctx ends, whose error it then returns. A d that is not positive is no pause.
func Sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
