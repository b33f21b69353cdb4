package mirror

import (
	"testing"
	"time"
)

// TestPause: after a failure a mirror comes back soon, then less often, and after a success with its
// interval, less what spreads the mirrors of a fleet.
func TestPause(t *testing.T) {
	cases := []struct {
		failed int
		jitter float64
		want   time.Duration
	}{
		{0, 0, time.Minute}, {0, 0.5, 54 * time.Second}, {0, 1, 48 * time.Second},
		{1, 0, 5 * time.Second}, {1, 1, 10 * time.Second},
		{2, 1, 20 * time.Second}, {3, 1, 40 * time.Second}, {4, 1, time.Minute}, {1_000_000, 0.5, 45 * time.Second},
	}
	for _, c := range cases {
		m := &Mirror{c: Config{Interval: time.Minute, Retry: 10 * time.Second, Jitter: func() float64 { return c.jitter }}}
		if got := m.pause(c.failed); got != c.want {
			t.Errorf("%d failures, jitter %v: expected %v, got %v", c.failed, c.jitter, c.want, got)
		}
	}
}

// TestRetryAfter follows from how fast archives came lately.
func TestRetryAfter(t *testing.T) {
	m := &Mirror{}
	m.noteRate(1000, time.Second)
	if m.rate != 1000 {
		t.Errorf("expected 1000 bytes a second, got %v", m.rate)
	}
	m.noteRate(5000, time.Second)
	if m.rate != 2000 {
		t.Errorf("expected the mean to follow slowly, got %v", m.rate)
	}
	m.noteRate(5000, 0)
	if m.rate < 2000 {
		t.Errorf("expected no division by zero, got %v", m.rate)
	}
}
