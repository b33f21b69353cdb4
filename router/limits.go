package router

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/openpowerquality/box-update-server/router/front"
)

// errCrowded says that as many downloads run as there may be.
var errCrowded = errors.New("too many downloads at once")

// leastPiece is the least that a download is given at a time where bandwidth is limited, in bytes.
const leastPiece = 4 << 10

// limits bound what all downloads together take.
type limits struct {
	running   *atomic.Int64 // downloads, those that began before a reload included
	most      int64         // downloads at once; 0: any number
	bandwidth *rate.Limiter // of all bodies together; nil: any
}

func newLimits(c Config) limits {
	l := limits{running: new(atomic.Int64), most: c.MaxDownloads}
	if c.MaxBandwidth > 0 {
		// A quarter of a second may be saved up, so that what a timer sleeps too long is made up for.
		l.bandwidth = rate.NewLimiter(rate.Limit(c.MaxBandwidth), int(max(leastPiece, c.MaxBandwidth/4)))
	}
	return l
}

// following returns l for a server that had the limits old until now: what runs counts on.
func (l limits) following(old limits) limits {
	l.running = old.running
	if l.bandwidth != nil && old.bandwidth != nil && l.bandwidth.Limit() == old.bandwidth.Limit() {
		l.bandwidth = old.bandwidth
	}
	return l
}

// enter counts a download that begins, errCrowded where there may be no more. HEAD is none. leave must be
// called when the download has ended.
func (l limits) enter(r *http.Request) (leave func(), err error) {
	if r.Method == http.MethodHead || l.most == 0 && l.bandwidth == nil {
		return func() {}, nil
	}
	leave = func() { l.running.Add(-1) }
	if n := l.running.Add(1); l.most > 0 && n > l.most {
		leave()
		return nil, errCrowded
	}
	return leave, nil
}

// pace returns the pace of one download, nil where bandwidth is not limited.
func (l limits) pace(w http.ResponseWriter, r *http.Request) *pace {
	if l.bandwidth == nil {
		return nil
	}
	return &pace{limits: l, ctx: r.Context(), control: http.NewResponseController(w)}
}

// A pace hands out a body piece by piece, so that all downloads together keep to the bandwidth and each
// gets an equal share. A nil *pace doesn't wait.
type pace struct {
	limits
	ctx     context.Context // of the request: who is gone waits no more
	control *http.ResponseController
	granted int64 // bytes that may be sent without waiting
}

// next waits until a body of which n bytes, at least one, are left may go on, and returns how many of them may
// be sent. took must be called with how many were.
func (p *pace) next(n int64) (int64, error) {
	n = min(n, front.PieceSize)
	if p == nil {
		return n, nil
	}
	if p.granted > 0 {
		return min(n, p.granted), nil
	}
	// Each gets its share four times a second: bodies that stand still would be cut by clients.
	share := int64(p.bandwidth.Limit()) / 4 / max(1, p.running.Load())
	n = min(n, max(share, leastPiece))
	if err := p.bandwidth.WaitN(p.ctx, int(n)); err != nil {
		return 0, err
	}
	// A window in which the client was to take something ended or began while it was given nothing.
	if err := p.control.SetWriteDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	p.granted = n
	return n, nil
}

func (p *pace) took(n int64) {
	if p != nil {
		p.granted -= n
	}
}
