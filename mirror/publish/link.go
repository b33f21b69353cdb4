package publish

import (
	"context"
	"sync"
	"time"

	"github.com/openpowerquality/box-update-server/update"
)

const (
	// parallel is how many blocks are on their way at a time where the link is fast.
	parallel = 4

	// pieceTime is how long it should take to send one piece of an archive, and so what a cut costs at most. Four blocks
	// in parallel take four times as long if the link just carries one in this time.
	pieceTime = 16 * time.Second

	// partTime is how long sending a piece may take before it counts as lost. Then the link has become far slower, and
	// the next piece is smaller.
	partTime = 2 * time.Minute

	// The sizes of the first piece, before the speed of the link is known, and of the smallest one, which takes less than
	// half of partTime at 1.2 kB/s.
	firstPiece = 256 << 10
	leastPiece = 64 << 10
)

// link measures the speed of the way to the origin, by what the origin has acknowledged. What a socket accepted says
// nothing, because its buffer, or a proxy's, holds more than a slow link carries in a minute.
//
// A slow link gets one piece at a time, a part of a block that it carries in pieceTime, so that the origin acknowledges
// each soon. A fast one gets whole blocks in parallel.
type link struct {
	mu      sync.Mutex
	rate    float64       // bytes per second of all pieces together; 0: not known yet
	running int           // pieces that are being sent
	ended   chan struct{} // closed when one of them has ended
}

func newLink() *link { return &link{ended: make(chan struct{})} }

// begin waits until another piece may be sent, and returns its size in bytes, at most left. The caller calls done when the
// origin has acknowledged the piece, or has not.
func (l *link) begin(ctx context.Context, left int64) (size int64, done func(ok bool), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.running > 0 && (l.piece() < update.BlockSize || l.running >= parallel) {
		ended := l.ended
		l.mu.Unlock()
		select {
		case <-ended:
		case <-ctx.Done():
		}
		l.mu.Lock()
		if ctx.Err() != nil {
			return 0, nil, context.Cause(ctx)
		}
	}
	l.running++
	size, start := min(left, l.piece()), time.Now()
	return size, func(ok bool) { l.end(size, time.Since(start), ok) }, nil
}

// piece returns the size of the next piece: what the link carries in pieceTime. The caller holds l.mu.
func (l *link) piece() int64 {
	if l.rate == 0 {
		return firstPiece
	}
	return min(max(leastPiece, int64(l.rate*pieceTime.Seconds())), update.BlockSize)
}

// slow reports whether the link is known not to carry a block in pieceTime.
func (l *link) slow() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rate > 0 && l.piece() < update.BlockSize
}

func (l *link) end(size int64, took time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !ok:
		// Whatever the reason was, the next attempt costs less.
		l.rate = float64(l.piece()) / pieceTime.Seconds() / 2
	case size >= leastPiece:
		// The running pieces share the link. A smaller piece would measure the round trip more than the link.
		l.rate = float64(size) * float64(l.running) / max(took.Seconds(), 1e-3)
	}
	l.running--
	close(l.ended)
	l.ended = make(chan struct{})
}
