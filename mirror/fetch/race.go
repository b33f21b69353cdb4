package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"sync"
	"time"

	"github.com/openpowerquality/box-update-server/internal/pace"
	"github.com/openpowerquality/box-update-server/update"
)

// An upstream may be slow without being silent. Whether that is its own fault or that of the link, a stall limit
// can't tell. So while a call takes long, another upstream is asked for a part of the same: where that comes many
// times as fast, the call goes on there.
const (
	raceFactor = 4         // so many times as fast is far better; shares of one link don't differ by that
	raceBytes  = 256 << 10 // that a trial takes at most
	raceEvery  = 20        // an upstream that was tried is not tried again for so many times Config.Race, unless it was far better
	shortFile  = 1024      // bytes that a shorter answer counts as: its time is that of a request
	slowFor    = time.Hour // an upstream that was outpaced is asked last for so long
)

// ErrOutpaced says that another upstream is much faster. It comes with ErrUnavailable.
var ErrOutpaced = errors.New("much slower than another upstream")

// try calls ask with an upstream, and ends it where another upstream turns out to be much faster, which is none of out.
func (c *Client) try(ctx context.Context, u *Upstream, out map[*Upstream]bool, ask func(context.Context, *Upstream) error) error {
	if c.c.Race < 0 || len(c.upstreams) == 1 {
		return ask(ctx, u)
	}
	raced, cut := context.WithCancelCause(ctx)
	r := &race{client: c, u: u, out: out, cut: cut}
	raced = context.WithValue(raced, raceKey{}, r)
	u.asks.Add(1)
	var done sync.WaitGroup
	done.Go(func() { r.run(raced) })
	err := ask(raced, u)
	cause := context.Cause(raced)
	u.asks.Add(-1)
	cut(nil)
	done.Wait()
	var mine *local
	if err != nil && errors.Is(cause, ErrOutpaced) && !errors.As(err, &mine) && ctx.Err() == nil {
		return &unavailable{err: fmt.Errorf("%v: %w: %w", u, ErrUnavailable, cause), by: r.winner}
	}
	return err
}

// race is one upstream that is asked, and the others that might be faster.
type race struct {
	client *Client
	u      *Upstream
	out    map[*Upstream]bool // not to be asked
	cut    context.CancelCauseFunc
	meter  pace.Meter
	winner *Upstream // set before cut

	mu     sync.Mutex
	file   string // that was asked for last
	header http.Header
}

type raceKey struct{}

// raceOf returns the race that a request is part of, nil where it is in none.
func raceOf(ctx context.Context) *race {
	r, _ := ctx.Value(raceKey{}).(*race)
	return r
}

// asked notes what is asked for.
func (r *race) asked(file string, header http.Header) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.file, r.header = file, header.Clone()
}

// begin and end tell of a wait for the upstream; where there is no race, r is nil.
func (r *race) begin() {
	if r != nil {
		r.meter.Begin()
	}
}

func (r *race) end(n int) {
	if r != nil {
		r.meter.End(n)
	}
}

// run looks now and then whether another upstream is much faster, until ctx ends.
func (r *race) run(ctx context.Context) {
	tick := time.NewTicker(r.client.c.Race)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if own := r.meter.Take(); own.Spent >= r.client.c.Race/2 { // else what takes so long is this side
			r.tryOthers(ctx, own)
		}
	}
}

// tryOthers tries upstreams that may be faster than what came lately, and ends the call where one is.
func (r *race) tryOthers(ctx context.Context, own pace.Progress) {
	for range r.client.upstreams {
		v := r.rival(r.rate(own))
		if v == nil {
			return
		}
		theirs := v.trial(ctx, r)
		own.Add(r.meter.Take())
		if rate := r.rate(own); ctx.Err() == nil && theirs > raceFactor*rate {
			err := fmt.Errorf("%w: %.0f bytes per second, %.0f from %v", ErrOutpaced, rate, theirs, v)
			r.u.tried(rate) // if the other one turns out to be slower still, this one is much faster
			r.u.SetSlow(time.Now().Add(slowFor))
			v.SetSlow(time.Time{})
			r.winner = v
			r.cut(err)
			return
		}
	}
}

// rate returns how many bytes per second the upstream gives. Whatever else is asked of it at the same time
// shares its link with this.
func (r *race) rate(own pace.Progress) float64 { return own.Rate() * float64(r.u.asks.Load()) }

// rival returns an upstream that may give many times as much, nil where none does.
func (r *race) rival(rate float64) (rival *Upstream) {
	c := r.client
	if c.raced.Load() > update.BlockSize+c.received()/100 {
		return nil // a link may be paid for by the byte
	}
	for _, v := range c.upstreams {
		s := v.State()
		if v == r.u || r.out[v] || !s.Damaged.IsZero() || !s.Until.IsZero() || !v.mayOutpace(rate) {
			continue
		}
		if rival == nil || rival.State().Failing && !s.Failing {
			rival = v
		}
	}
	return rival
}

// received returns how many bytes of bodies came from all upstreams.
func (c *Client) received() (n int64) {
	for _, u := range c.upstreams {
		n += u.Received()
	}
	return n
}

// trial asks the upstream for the beginning of what the race is about, and returns how many bytes came per second.
// It is dropped, so that no block or file has two senders.
func (u *Upstream) trial(ctx context.Context, r *race) (rate float64) {
	r.mu.Lock()
	file, header := r.file, r.header
	r.mu.Unlock()
	short, cancel := context.WithTimeout(context.WithValue(ctx, raceKey{}, nil), r.client.c.Race/2)
	defer cancel()
	rate, err := u.sample(short, file, header)
	if err != nil && short.Err() == nil {
		// It may have other metadata, or other paths.
		rate, err = u.sample(short, timestampFile, http.Header{})
	}
	if err != nil {
		rate = 0
	}
	if ctx.Err() == nil { // else it was not given its time
		u.tried(rate)
	}
	return rate
}

// sample takes raceBytes of a file at most, for as long as ctx lasts.
func (u *Upstream) sample(ctx context.Context, file string, header http.Header) (rate float64, err error) {
	began := time.Now()
	a, err := u.get(ctx, file, header.Clone())
	if err != nil {
		return 0, err
	}
	defer a.Body.Close()
	if a.StatusCode != http.StatusNotModified {
		if err := u.status(file, a, true); err != nil {
			return 0, err
		}
	}
	n, err := io.CopyN(io.Discard, a.Body, raceBytes/2)
	last := math.Inf(1)
	if err == nil { // the beginning may have come at once, and the rest may not
		halfway := time.Now()
		var m int64
		if m, err = io.CopyN(io.Discard, a.Body, raceBytes/2); !errors.Is(err, io.EOF) {
			last = pace.Progress{Bytes: m, Spent: time.Since(halfway)}.Rate()
		}
		n += m
	}
	u.client.raced.Add(n)
	if err == nil || errors.Is(err, io.EOF) {
		n = max(n, shortFile)
	} else if ctx.Err() == nil {
		return 0, err
	}
	return min(pace.Progress{Bytes: n, Spent: time.Since(began)}.Rate(), last), nil
}

// tried notes how fast the upstream was.
func (u *Upstream) tried(rate float64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.rate, u.rated = rate, time.Now()
}

// mayOutpace reports whether it is not known that the upstream is no faster than another one that gives so many
// bytes per second. One that was outpaced itself may by what it gave then: whoever sends the beginning of an answer at
// once wins a trial, and may be slower than that afterwards.
func (u *Upstream) mayOutpace(rate float64) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	again := u.current().Slow.IsZero() && time.Since(u.rated) > raceEvery*u.client.c.Race
	return u.rated.IsZero() || u.rate > raceFactor*rate || again
}
