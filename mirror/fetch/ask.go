package fetch

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Ask calls ask with one upstream after another until it returns nil. Upstreams that are set aside are
// left out, those that pause, are behind or slow come last, and which is asked first follows the order of the
// configuration.
//
// Where ask takes long, the context that it is given ends once another upstream turns out to be much faster, which
// is asked then. A sole upstream is waited for however slow it is.
//
// An upstream for which ask returns ErrUnavailable is asked again after a pause, one with ErrRefused is
// set aside, and one with any other error is not asked again by this call. Where none is left, or nothing
// came for Config.Patience, the error joins the last one of each upstream.
func (c *Client) Ask(ctx context.Context, ask func(context.Context, *Upstream) error) error {
	q := inquiry{client: c, last: map[*Upstream]error{}, out: map[*Upstream]bool{}}
	q.patient()
	for {
		u, err := q.next(ctx)
		if err != nil {
			return err
		}
		began := time.Now()
		err = c.try(ctx, u, ask)
		var mine *local
		if errors.As(err, &mine) || ctx.Err() != nil {
			return err
		}
		u.note(began, err)
		if err == nil {
			return nil
		}
		q.failed(u, err)
	}
}

// local is an error that is no upstream's fault.
type local struct{ err error }

func (e *local) Error() string { return e.err.Error() }
func (e *local) Unwrap() error { return e.err }

// inquiry is one call of Ask.
type inquiry struct {
	client   *Client
	last     map[*Upstream]error
	out      map[*Upstream]bool // not to be asked again
	goOn     *Upstream          // the one to go on with; nil: whose turn it is
	deadline time.Time
}

// patient begins the time anew after which the inquiry gives up.
func (q *inquiry) patient() { q.deadline = time.Now().Add(max(0, q.client.c.Patience)) }

func (q *inquiry) failed(u *Upstream, err error) {
	q.last[u] = err
	var away *unavailable
	temporary := errors.As(err, &away) && !errors.Is(err, ErrRefused)
	again := temporary && q.client.c.Patience > 0
	q.goOn = nil
	switch {
	case again && away.by != nil:
		q.goOn = away.by
		q.patient() // it sent what it could, and comes last from now on
	case again && away.progress:
		q.goOn = u
		q.patient()
	}
	if !again {
		q.out[u] = true
	}
	q.client.c.Logger.Warn("upstream failed", "upstream", u.String(), "err", oneLine(err), "again", u.State().Until)
}

// next returns the upstream to ask, once it is time. An upstream that was cut after it had sent something
// goes on: another one would have to send the block in flight from its start.
func (q *inquiry) next(ctx context.Context) (*Upstream, error) {
	u := q.choose()
	if u == nil {
		return nil, q.giveUp()
	}
	until := u.State().Until
	if until.After(q.deadline) {
		return nil, q.giveUp()
	}
	return u, sleep(ctx, time.Until(until))
}

// choose returns the upstream that can be asked first, nil where there is none.
func (q *inquiry) choose() *Upstream {
	var best *Upstream
	var bestState State
	for _, u := range q.client.upstreams {
		s := u.State()
		if q.out[u] || s.Refused {
			continue
		}
		if u == q.goOn {
			return u
		}
		if best == nil || s.before(bestState) {
			best, bestState = u, s
		}
	}
	return best
}

// before reports whether an upstream in state s is asked before one in state other.
func (s State) before(other State) bool {
	if s.Until.IsZero() && other.Until.IsZero() {
		return s.rank() < other.rank()
	}
	return s.Until.Before(other.Until)
}

// rank orders upstreams that can be asked now, lower ones first. One that is slow has at least what is wanted.
func (s State) rank() (rank int) {
	if !s.Slow.IsZero() {
		rank++
	}
	if s.Behind {
		rank += 2
	}
	return rank
}

// giveUp joins what is against each upstream.
func (q *inquiry) giveUp() error {
	var all []error
	for _, u := range q.client.upstreams {
		s := u.State()
		err := q.last[u]
		if err == nil && !s.Until.IsZero() {
			err = s.error(u)
		}
		all = append(all, err)
	}
	return errors.Join(all...)
}

// error returns what is against an upstream that was not asked.
func (s State) error(u *Upstream) error {
	kind := ErrUnavailable
	if s.Refused {
		kind = ErrRefused
	}
	return fmt.Errorf("%v: %w earlier, not asked before %s: %s", u, kind, s.Until.UTC().Format(time.RFC3339), s.Reason)
}

// gaining notes in an error whether enough came before it, so many bytes, to go on with that upstream: what
// the stall limit asks for in one window.
func (c *Client) gaining(err error, bytes int64) error {
	var away *unavailable
	if errors.As(err, &away) {
		away.progress = float64(bytes) >= float64(c.c.StallRate)*c.c.StallWindow.Seconds()
	}
	return err
}

// distrust sets an upstream aside although it sent everything.
func (c *Client) distrust(u *Upstream, err error) {
	u.SetAside(err)
	c.c.Logger.Warn("upstream failed", "upstream", u.String(), "err", oneLine(err), "again", u.State().Until)
}

// sleep waits, or for ctx to end.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
