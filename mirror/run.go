package mirror

import (
	"context"
	"sync"
	"time"

	"github.com/openpowerquality/box-update-server/internal/pace"
)

// Run syncs at once, and then after each Config.Interval or Trigger, sooner after a failure, and fetches what Want
// promised. It logs failures, which Freshness reports too, and continues until ctx ends, whose error it returns. Only one
// Run may be running.
func (m *Mirror) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wants sync.WaitGroup
	defer wants.Wait()
	defer cancel()
	for range wantedAtOnce {
		wants.Go(func() { m.serveWants(ctx) })
	}
	failed := 0
	for {
		_, err := m.Sync(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if failed++; err == nil {
			failed = 0
		} else {
			m.c.Logger.Error("mirror", "err", err)
		}
		if err := pace.SleepUntil(ctx, m.pause(failed), m.trigger); err != nil {
			return err
		}
	}
}

// Trigger makes Run sync now, or again after the sync that is running. It does not wait.
func (m *Mirror) Trigger() {
	select {
	case m.trigger <- struct{}{}:
	default: // one is due already
	}
}

// pause returns how long to wait after so many failures in a row.
func (m *Mirror) pause(failed int) time.Duration {
	if failed == 0 {
		return m.c.Interval - time.Duration(m.c.Jitter()*float64(m.c.Interval/5))
	}
	return pace.Backoff{First: m.c.Retry, Most: m.c.Interval}.Spread(failed, m.c.Jitter())
}
