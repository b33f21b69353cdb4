package pace

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestStallCountsOnlyWaitingForTheUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stalled []float64
		s := WatchStall(100, 10*time.Second, func(got float64) { stalled = append(stalled, got) })
		defer s.Stop()
		time.Sleep(time.Hour) // the disk
		for range 50 {        // just fast enough
			s.Begin()
			time.Sleep(time.Second)
			s.End(120)
			time.Sleep(time.Minute)
		}
		synctest.Wait()
		if stalled != nil {
			t.Fatalf("stalled at %v", stalled)
		}
		s.Begin()
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(stalled) != 1 || stalled[0] >= 100 {
			t.Errorf("expected to be told once, got %v", stalled)
		}
	})
}

func TestStopEndsAStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := WatchStall(1, time.Second, func(float64) { t.Error("it was stopped") })
		s.Begin()
		s.Stop()
		time.Sleep(time.Hour)
	})
}

// TestMeter: what is taken is gone, and a wait that is under way counts up to then.
func TestMeter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m Meter
		m.Begin()
		time.Sleep(2 * time.Second)
		if got := m.Take(); got != (Progress{0, 2 * time.Second}) {
			t.Errorf("in a wait: got %+v", got)
		}
		time.Sleep(time.Second)
		m.End(300)
		time.Sleep(time.Minute)
		got := m.Take()
		if got != (Progress{300, time.Second}) || got.Rate() != 300 {
			t.Errorf("after a wait: got %+v, %v per second", got, got.Rate())
		}
		if got := m.Take(); got != (Progress{}) {
			t.Errorf("afterwards: got %+v", got)
		}
		got.Add(Progress{100, time.Second})
		if got != (Progress{400, 2 * time.Second}) {
			t.Errorf("the sum: got %+v", got)
		}
	})
}

// TestCap: no more passes than may, however much at once, and nothing is saved up before.
func TestCap(t *testing.T) {
	for _, perSecond := range []int64{1, 100, 10_000, 10 << 20} {
		synctest.Test(t, func(t *testing.T) {
			c, began := NewCap(perSecond), time.Now()
			for range 10 {
				if err := c.Wait(t.Context(), int(3*perSecond)); err != nil {
					t.Fatal(err)
				}
			}
			if took := time.Since(began); took < 29*time.Second || took > 31*time.Second {
				t.Errorf("30 seconds' share of %d took %v", perSecond, took)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if err := c.Wait(ctx, int(10*perSecond)); err == nil || errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		})
	}
	if err := NewCap(0).Wait(t.Context(), 1<<30); err != nil {
		t.Errorf("no cap: got %v", err)
	}
}
