package fetch

import (
	"context"
	"fmt"
	"io"

	"github.com/openpowerquality/box-update-server/internal/pace"
)

// readSize is how many bytes are read at once, at most.
const readSize = pace.Burst

// body is the body of an answer. It is read no faster than the cap allows, and is cut where the upstream
// is slower than the limit.
type body struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	from   io.ReadCloser
	cap    *pace.Cap
	stall  *pace.Stall
	race   *race // nil: it is in none
}

func newBody(ctx context.Context, cancel context.CancelCauseFunc, c *Client, from io.ReadCloser) *body {
	return &body{ctx: ctx, cancel: cancel, from: from, cap: c.cap, stall: c.c.watchStall(cancel), race: raceOf(ctx)}
}

// watchStall cuts an answer that brings fewer bytes per second than the limit.
func (c *Config) watchStall(cut context.CancelCauseFunc) *pace.Stall {
	return pace.WatchStall(c.StallRate, c.StallWindow, func(got float64) {
		cut(fmt.Errorf("%w: expected %d bytes per second over %v, got %.1f", ErrStalled, c.StallRate, c.StallWindow, got))
	})
}

// Read reads at most readSize bytes. The error of a body that was cut for its slowness is
// ErrStalled: net/http returns the cause of the cancellation.
func (b *body) Read(p []byte) (int, error) {
	p = p[:min(len(p), readSize)]
	patience := patienceOf(b.ctx)
	b.stall.Begin()
	b.race.begin()
	patience.begin()
	n, err := b.from.Read(p)
	patience.came(n)
	b.race.end(n)
	b.stall.End(n)
	if waitErr := b.cap.Wait(b.ctx, n); waitErr != nil {
		return n, waitErr
	}
	return n, err
}

// more reports whether the body goes on where it must be over. Reading its end lets the connection serve
// the next request.
func (b *body) more() bool {
	n, _ := io.ReadFull(b, make([]byte, 1)) // an error is an end as well
	return n > 0
}

func (b *body) close() {
	b.stall.Stop()
	b.from.Close() // opened for reading
	b.cancel(nil)
}
