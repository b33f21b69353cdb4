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

// leastPiece is the smallest number of bytes that a download is granted at a time if bandwidth is limited.
const leastPiece = 4 << 10

// limits bound all downloads together.
type limits struct {
	running   *atomic.Int64 // running downloads, including those that began before a reload
	most      int64         // downloads at once; 0: any number
	bandwidth *rate.Limiter // of all bodies together; nil: any
}

func newLimits(c Config) limits {
	l := limits{running: new(atomic.Int64), most: c.MaxDownloads}
	if c.MaxBandwidth > 0 {
		// A burst of a quarter of a second makes up for timers that fire late.
		l.bandwidth = rate.NewLimiter(rate.Limit(c.MaxBandwidth), int(max(leastPiece, c.MaxBandwidth/4)))
	}
	return l
}

// following returns l as the successor of old after a reload: running downloads still count, and the limiter stays if
// the bandwidth is the same.
func (l limits) following(old limits) limits {
	l.running = old.running
	if l.bandwidth != nil && old.bandwidth != nil && l.bandwidth.Limit() == old.bandwidth.Limit() {
		l.bandwidth = old.bandwidth
	}
	return l
}

// enter counts a download that begins, or returns errCrowded. HEAD requests are not counted. The caller must call leave
// when the download has ended.
func (l limits) enter(r *http.Request) error {
	if r.Method == http.MethodHead {
		return nil
	}
	if n := l.running.Add(1); l.most > 0 && n > l.most {
		l.running.Add(-1)
		return errCrowded
	}
	return nil
}

func (l limits) leave(r *http.Request) {
	if r.Method != http.MethodHead {
		l.running.Add(-1)
	}
}

// pace returns the pace of one download, nil if bandwidth is not limited.
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
	ctx     context.Context // of the request: a client that is gone stops waiting
	control *http.ResponseController
	granted int64 // bytes that may be sent without waiting
}

// next waits until the download may send more, and returns how many bytes it may send: from 1 to n. n is how many are
// left, at least 1. The caller must call spend with the number of bytes that it sent.
func (p *pace) next(n int64) (int64, error) {
	n = min(n, front.PieceSize)
	if p == nil {
		return n, nil
	}
	if p.granted > 0 {
		return min(n, p.granted), nil
	}
	// Each download gets its share four times a second, because clients would cut a body that stands still.
	share := int64(p.bandwidth.Limit()) / 4 / max(1, p.running.Load())
	n = min(n, max(share, leastPiece))
	if err := p.bandwidth.WaitN(p.ctx, int(n)); err != nil {
		return 0, err
	}
	// A stall window may have begun before the wait. End it, because the client was given nothing to take.
	if err := p.control.SetWriteDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	p.granted = n
	return n, nil
}

func (p *pace) spend(n int64) {
	if p != nil {
		p.granted -= n
	}
}
