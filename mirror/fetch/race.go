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

// An upstream may be slow without being silent. A stall limit can't tell whether the upstream or our own link is at
// fault. So while a call takes long, another upstream is asked for a part of the same file. If that part comes many
// times as fast, the call continues there.
const (
	raceFactor = 4         // how many times as fast counts as far better; two upstreams that share one link don't differ by so much
	raceBytes  = 256 << 10 // that a trial reads at most
	raceEvery  = 20        // in units of Config.Race: how long a tried upstream is not tried again, unless it was far better
	shortFile  = 1024      // a shorter answer counts as so many bytes, since the request itself takes most of its time
	slowFor    = time.Hour // for how long an outpaced upstream is asked last
)

// ErrOutpaced says that another upstream is much faster. It is always wrapped with ErrUnavailable.
var ErrOutpaced = errors.New("much slower than another upstream")

// try calls ask with an upstream, and ends it if another upstream, which is not in out, turns out to be much faster.
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

// race compares the upstream that is being asked with others that might be faster.
type race struct {
	client *Client
	u      *Upstream
	out    map[*Upstream]bool // not to be asked
	cut    context.CancelCauseFunc
	meter  pace.Meter
	winner *Upstream // set before cut

	mu     sync.Mutex
	file   string // the file that was asked for last
	header http.Header
}

type raceKey struct{}

// raceOf returns the race that a request belongs to, one that nobody watches if there is none.
func raceOf(ctx context.Context) *race {
	if r, ok := ctx.Value(raceKey{}).(*race); ok {
		return r
	}
	return new(race)
}

// asked records the file that is asked for.
func (r *race) asked(file string, header http.Header) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.file, r.header = file, header.Clone()
}

// run checks after each Config.Race whether another upstream is much faster, until ctx ends.
func (r *race) run(ctx context.Context) {
	tick := time.NewTicker(r.client.c.Race)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if own := r.meter.Take(); own.Spent >= r.client.c.Race/2 { // otherwise this side is the slow one
			r.tryOthers(ctx, own)
		}
	}
}

// tryOthers tries upstreams that may be faster than own, the recent progress, and ends the call if one is.
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

// rate returns how many bytes per second the upstream sends to all calls together, since they share its link.
func (r *race) rate(own pace.Progress) float64 { return own.Rate() * float64(r.u.asks.Load()) }

// rival returns an upstream that may send many times as much, nil if there is none.
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

// received returns how many bytes of bodies all upstreams have sent.
func (c *Client) received() (n int64) {
	for _, u := range c.upstreams {
		n += u.Received()
	}
	return n
}

// trial asks the upstream for the beginning of the race's file, and returns how many bytes came per second. The bytes
// are dropped, so that no block or file has two senders.
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
	if ctx.Err() == nil { // otherwise the trial was cut short
		u.tried(rate)
	}
	return rate
}

// sample reads at most raceBytes of a file until ctx ends, and returns the rate in bytes per second.
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

// tried records how fast the upstream was, in bytes per second.
func (u *Upstream) tried(rate float64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.rate, u.rated = rate, time.Now()
}

// mayOutpace reports whether the upstream may be far faster than rate, in bytes per second: it was not tried yet, was
// far faster when it was, or was tried long ago. If it was itself outpaced, only its rate at that time counts: an
// upstream that sends the beginning of an answer at once wins a trial, and may be slow afterwards.
func (u *Upstream) mayOutpace(rate float64) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	again := u.current().Slow.IsZero() && time.Since(u.rated) > raceEvery*u.client.c.Race
	return u.rated.IsZero() || u.rate > raceFactor*rate || again
}
