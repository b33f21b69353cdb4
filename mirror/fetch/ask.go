package fetch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/openpowerquality/box-update-server/internal/pace"
)

// Ask calls ask with one upstream after another until it returns nil. Upstreams that are set aside are
// left out. Those that this call has not asked yet come first. Among these, those that answered last time come
// first, and then those that are neither behind nor slow and have no damaged archives. Those that pause come last.
// Otherwise the order of the configuration decides.
//
// If ask takes long and another upstream turns out to be much faster, the context of ask ends and the faster upstream
// is asked. A sole upstream may be slow.
//
// If ask returns ErrUnavailable, the upstream is asked again after a pause. After ErrRefused it is set aside; after
// ErrDamaged or any other error this call does not ask it again. When no upstream is left, or nothing came for
// Config.Patience, Ask returns the last error of each upstream, joined; Patience also ends the context of a running
// ask.
func (c *Client) Ask(ctx context.Context, ask func(context.Context, *Upstream) error) error {
	return c.inquire(ctx, 0, ask)
}

// inquire is Ask with one more rule: if overdue is not 0 and the upstreams are silent for so long, the next one is
// asked too. Then several goroutines call ask, and the first success ends the others.
func (c *Client) inquire(ctx context.Context, overdue time.Duration, ask func(context.Context, *Upstream) error) error {
	q := inquiry{
		client: c, overdue: overdue, last: map[*Upstream]error{}, out: map[*Upstream]bool{}, asked: map[*Upstream]int{},
		running: map[*Upstream]*attempt{}, done: make(chan *attempt, len(c.upstreams)),
	}
	var patient context.Context
	patient, q.patience = c.withPatience(ctx)
	defer q.patience.end(nil)
	defer q.abandon()
	for {
		next := q.choose()
		if len(q.running) == 0 {
			if next == nil || time.Until(next.State().Until) > q.patience.left() {
				return q.giveUp()
			}
			if err := q.pause(ctx, time.Until(next.State().Until)); err != nil {
				return err
			}
			q.start(patient, next, ask)
			continue
		}
		a := q.wait(next)
		if a == nil {
			q.start(patient, next, ask)
			continue
		}
		var mine *local
		if errors.As(a.err, &mine) || a.err != nil && ctx.Err() != nil {
			return a.err
		}
		a.u.note(a.began, a.err)
		if a.err == nil {
			return nil
		}
		q.failed(a.u, a.err)
		if patient.Err() != nil {
			return q.giveUp()
		}
	}
}

// local is an error that is no upstream's fault.
type local struct{ err error }

func (e *local) Error() string { return e.err.Error() }
func (e *local) Unwrap() error { return e.err }

// inquiry is one call of Ask.
type inquiry struct {
	client    *Client
	overdue   time.Duration
	patience  *patience
	last      map[*Upstream]error
	out       map[*Upstream]bool // not to be asked again
	asked     map[*Upstream]int  // how often
	due       time.Time          // when one more is asked, unless more than had has come by then
	had       int64              // bytes
	preferred *Upstream          // the one to continue with; nil: the next in order
	running   map[*Upstream]*attempt
	done      chan *attempt
}

// attempt is one call of ask.
type attempt struct {
	u      *Upstream
	began  time.Time
	had    int64 // what u had sent before
	cancel context.CancelCauseFunc
	err    error // once it is over
}

func (q *inquiry) start(ctx context.Context, u *Upstream, ask func(context.Context, *Upstream) error) {
	a := &attempt{u: u, began: time.Now(), had: u.received.Load()}
	ctx, a.cancel = context.WithCancelCause(ctx)
	q.running[u] = a
	out := maps.Clone(q.out)
	q.asked[u]++
	q.dueIn(q.overdue)
	go func() {
		a.err = q.client.try(ctx, u, out, ask)
		q.done <- a
	}()
}

// wait returns an attempt that has ended, or nil when it is time to ask next. next may be nil: then wait waits for an
// attempt.
func (q *inquiry) wait(next *Upstream) *attempt {
	due := q.due
	if next != nil && next.State().Until.After(due) {
		due = next.State().Until // it pauses
	}
	t := time.NewTimer(time.Until(due))
	defer t.Stop()
	overdue := t.C
	if q.overdue == 0 || next == nil {
		overdue = nil
	}
	for {
		select {
		case a := <-q.done:
			a.cancel(nil)
			delete(q.running, a.u)
			return a
		case <-overdue:
			if q.client.received() == q.had {
				return nil
			}
			q.dueIn(q.overdue)
			t.Reset(q.overdue)
		}
	}
}

// dueIn makes one more upstream due after d, unless something comes before.
func (q *inquiry) dueIn(d time.Duration) { q.due, q.had = time.Now().Add(d), q.client.received() }

// abandon ends all running attempts. An upstream that was silent all the time pauses, as after any failure.
func (q *inquiry) abandon() {
	for _, a := range q.running {
		if a.u.received.Load() == a.had && time.Since(a.began) >= q.overdue {
			a.cancel(errSilent(time.Since(a.began)))
		} else {
			a.cancel(nil)
		}
	}
	for range q.running {
		if a := <-q.done; a.err == nil || errors.Is(a.err, ErrUnavailable) {
			a.u.note(a.began, a.err)
		}
	}
}

// errSilent is the error of an upstream that was silent for d.
func errSilent(d time.Duration) error {
	return &unavailable{err: fmt.Errorf("%w: nothing came for %v", ErrUnavailable, d.Round(time.Millisecond))}
}

// ended reports whether the caller ended ctx, and not the silence of an upstream.
func ended(ctx context.Context) bool {
	return ctx.Err() != nil && !errors.Is(context.Cause(ctx), ErrUnavailable)
}

// unlessSilent asks an upstream once, and ends when nothing came from it for Client.overdue.
func (c *Client) unlessSilent(ctx context.Context, u *Upstream, ask func(context.Context, *Upstream) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		t := time.NewTicker(c.overdue)
		defer t.Stop()
		for had := u.received.Load(); ; had = u.received.Load() {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				if u.received.Load() == had {
					cancel(errSilent(c.overdue))
				}
			}
		}
	}()
	return c.try(ctx, u, nil, ask)
}

func (q *inquiry) failed(u *Upstream, err error) {
	q.last[u] = err
	q.dueIn(0)
	var away *unavailable
	temporary := errors.As(err, &away) && !errors.Is(err, ErrRefused)
	again := temporary && q.client.c.Patience > 0
	q.preferred = nil
	switch {
	case again && away.by != nil:
		q.preferred = away.by
		q.patience.renew() // it sent what it could, and comes last from now on
	case again && away.progress:
		q.preferred = u
		q.patience.renew()
	case len(q.running) == 0:
		q.patience.takeBack()
	}
	if !again {
		q.out[u] = true
	}
	if errors.Is(err, ErrDamaged) {
		return // damagedf has logged it
	}
	q.client.logFailure(u, err)
}

// pause waits for an upstream that pauses.
func (q *inquiry) pause(ctx context.Context, d time.Duration) error {
	q.patience.begin()
	defer q.patience.came(0)
	defer pace.Waiting(ctx, fmt.Sprintf("pausing for %v before the next try", d.Round(time.Second)))()
	return pace.Sleep(ctx, d)
}

// choose returns the upstream to ask next, nil if there is none. An upstream that was cut after it had sent something
// is preferred, because another one would have to send the block in flight from its start.
func (q *inquiry) choose() *Upstream {
	var best *Upstream
	var bestState State
	for _, u := range q.client.upstreams {
		s := u.State()
		if q.out[u] || s.Refused || q.running[u] != nil {
			continue
		}
		if u == q.preferred {
			return u
		}
		if best == nil || s.before(bestState, q.asked[u]-q.asked[best]) {
			best, bestState = u, s
		}
	}
	return best
}

// before reports whether an upstream in state s is asked before one in state other. oftener is how many more times
// this call has asked the former than the latter.
func (s State) before(other State, oftener int) bool {
	switch {
	case !s.Until.IsZero() || !other.Until.IsZero():
		return s.Until.Before(other.Until)
	case oftener != 0:
		return oftener < 0
	case s.Failing != other.Failing:
		return other.Failing
	}
	return s.rank() < other.rank()
}

// rank orders upstreams that can be asked now; a lower rank is asked first. A slow upstream has the wanted file, one
// that is behind may lack it, and one with damaged archives may have it wrong.
func (s State) rank() (rank int) {
	if !s.Slow.IsZero() {
		rank++
	}
	if s.Behind {
		rank += 2
	}
	if !s.Damaged.IsZero() {
		rank += 4
	}
	return rank
}

// giveUp returns the last error of each upstream, joined.
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

// error returns why an upstream was not asked.
func (s State) error(u *Upstream) error {
	kind := ErrUnavailable
	if s.Refused {
		kind = ErrRefused
	}
	return fmt.Errorf("%v: %w earlier, not asked before %s: %s", u, kind, s.Until.UTC().Format(time.RFC3339), s.Reason)
}

// withProgress marks err as worth retrying at the same upstream, if at least as many bytes came first as the stall
// limit demands in one window.
func (c *Client) withProgress(err error, bytes int64) error {
	var away *unavailable
	if errors.As(err, &away) {
		away.progress = float64(bytes) >= float64(c.c.StallRate)*c.c.StallWindow.Seconds()
	}
	return err
}

// distrust sets aside an upstream that sent something wrong after everything that was wanted.
func (c *Client) distrust(u *Upstream, err error) {
	u.setAside(err)
	c.logFailure(u, err)
}

// logFailure logs what went wrong with an upstream and, where it pauses, until when.
func (c *Client) logFailure(u *Upstream, err error) {
	args := []any{"upstream", u.String(), "err", oneLine(err)}
	if until := u.State().Until; !until.IsZero() {
		args = append(args, "again", until)
	}
	c.c.Logger.Warn("upstream failed", args...)
}
