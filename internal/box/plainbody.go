package box

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/openpowerquality/box-update-server/mirror/fetch"
)

// watched is a body that is read no faster than a cap, and ends its request where it is too slow.
type watched struct {
	ctx     context.Context
	cancel  context.CancelCauseFunc
	timer   *time.Ticker
	bytes   atomic.Int64
	limiter *rate.Limiter // nil: no cap
	from    io.Reader
	err     error // what ended it

	server  *plainServer
	silence *time.Timer // nil: nothing that is silent is asked again
	last    time.Time   // when something came
}

// watch returns a context that ends when less than the least bytes per second come, or nothing for as long as
// the server's patience goes, and the body that has to be read for that.
func (s *plainServer) watch(ctx context.Context) (context.Context, *watched) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watched{ctx: ctx, cancel: cancel, timer: time.NewTicker(stallWindow), limiter: s.limiter, server: s, last: time.Now()}
	if s.patience > 0 {
		w.silence = time.AfterFunc(s.patience-s.spent, func() { cancel(fmt.Errorf("%w: nothing came for %v", fetch.ErrStalled, s.patience)) })
	}
	go w.judge(s.least)
	return ctx, w
}

func (w *watched) judge(least float64) {
	for {
		select {
		case <-w.ctx.Done():
			return
		case <-w.timer.C:
			if got := w.bytes.Swap(0); float64(got) < least*stallWindow.Seconds() {
				w.cancel(fmt.Errorf("%w: expected %v bytes per second over %v, got %d bytes", fetch.ErrStalled, least, stallWindow, got))
			}
		}
	}
}

// heard says that something came.
func (w *watched) heard() {
	w.last = time.Now()
	if w.silence != nil {
		w.silence.Reset(w.server.patience)
	}
}

func (w *watched) stop() {
	w.timer.Stop()
	if w.silence != nil {
		w.silence.Stop()
	}
	w.server.spent += time.Since(w.last)
	w.cancel(nil)
}

// of returns a body, watched.
func (w *watched) of(body io.Reader) io.Reader {
	w.from = body
	return w
}

// Read reads the body, no faster than it may, and counts.
func (w *watched) Read(p []byte) (int, error) {
	most := plainBurst
	if w.limiter != nil {
		most = w.limiter.Burst()
	}
	n, err := w.from.Read(p[:min(len(p), most)])
	if w.bytes.Add(int64(n)); n > 0 {
		w.heard()
	}
	if w.limiter != nil && n > 0 {
		if waitErr := w.limiter.WaitN(w.ctx, n); waitErr != nil {
			err = waitErr
		}
	}
	if err != nil {
		w.err = err
	}
	return n, err
}
