package pace

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if err := Sleep(t.Context(), time.Minute); err != nil || time.Since(began) != time.Minute {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := Sleep(ctx, time.Minute); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 61*time.Second {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
		if err := Sleep(ctx, 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if err := Sleep(t.Context(), -1); err != nil {
			t.Errorf("got %v", err)
		}
	})
}

func TestSleepUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, wake := time.Now(), make(chan struct{}, 1)
		time.AfterFunc(time.Second, func() { wake <- struct{}{} })
		if err := SleepUntil(t.Context(), time.Minute, wake); err != nil || time.Since(began) != time.Second {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
	})
}

func TestBackoff(t *testing.T) {
	b := Backoff{First: time.Second, Most: 5 * time.Second}
	for failures, want := range map[int]time.Duration{
		-1: 0, 0: 0, 1: time.Second, 2: 2 * time.Second, 3: 4 * time.Second, 4: 5 * time.Second, 1 << 40: 5 * time.Second,
	} {
		if got := b.Pause(failures); got != want {
			t.Errorf("%d failures: expected %v, got %v", failures, want, got)
		}
	}
	for random, want := range map[float64]time.Duration{0: 2 * time.Second, 0.5: 3 * time.Second, 1: 4 * time.Second} {
		if got := b.Spread(3, random); got != want {
			t.Errorf("%v: expected %v, got %v", random, want, got)
		}
	}
	if got := (Backoff{First: time.Minute, Most: time.Second}).Pause(1); got != time.Second {
		t.Errorf("a first pause above the longest: got %v", got)
	}
}
