package pace

import (
	"context"
	"errors"
	"time"
)

// A Lane is a queue of work, of which one piece runs at a time. All work begins in the quick lane. There a limit keeps
// one long piece from delaying the others; what exceeds it begins again in the slow lane, beside them.
//
//	lane         its work           goes to
//	quick        exceeds the limit  slow
//	quick, slow  fails              none
type Lane uint8

// The lanes.
const (
	QuickLane Lane = iota
	SlowLane       // without a limit
	NoLane         // it failed, and is not tried again
)

// ErrSlow says that work in the quick lane exceeded the limit.
var ErrSlow = errors.New("takes longer than other work may wait")

// Run does work in a lane, in the quick one no longer than limit. The error is ErrSlow if it did not end by then, else
// that of work, which returns soon after its context ends.
func (l Lane) Run(ctx context.Context, limit time.Duration, work func(context.Context) error) error {
	if l != QuickLane {
		return work(ctx)
	}
	quick, cancel := context.WithTimeoutCause(ctx, limit, ErrSlow)
	defer cancel()
	err := work(quick)
	if err != nil && errors.Is(context.Cause(quick), ErrSlow) {
		return ErrSlow
	}
	return err
}

// After returns the lane in which work goes on for which Run returned an error.
func (l Lane) After(err error) Lane {
	if errors.Is(err, ErrSlow) {
		return SlowLane
	}
	return NoLane
}
