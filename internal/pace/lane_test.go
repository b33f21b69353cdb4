package pace

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// Only work in the quick lane has a limit, and only the limit moves it to the slow one.
func TestLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failed := errors.New("failed")
		takes := func(d time.Duration, err error) func(context.Context) error {
			return func(ctx context.Context) error { return errors.Join(Sleep(ctx, d), err) }
		}
		for _, c := range []struct {
			lane  Lane
			takes time.Duration
			fails error
			want  error
			next  Lane
		}{
			{QuickLane, 59 * time.Second, nil, nil, NoLane},
			{QuickLane, 59 * time.Second, failed, failed, NoLane},
			{QuickLane, time.Hour, nil, ErrSlow, SlowLane},
			{QuickLane, time.Hour, failed, ErrSlow, SlowLane},
			{SlowLane, time.Hour, nil, nil, NoLane},
			{SlowLane, time.Hour, failed, failed, NoLane},
		} {
			err := c.lane.Run(t.Context(), time.Minute, takes(c.takes, c.fails))
			if !errors.Is(err, c.want) || c.want == nil && err != nil || c.lane.After(err) != c.next {
				t.Errorf("%+v: got %v, and then lane %v", c, err, c.lane.After(err))
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := QuickLane.Run(ctx, time.Minute, takes(time.Hour, nil)); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrSlow) {
			t.Errorf("the end of the context is not the limit: got %v", err)
		}
	})
}
