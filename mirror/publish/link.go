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

	// pieceTime is how long one piece of an archive should be on its way: what a cut costs, at most. Four
	// whole blocks at a time take four times as long where the link just carries one in it.
	pieceTime = 16 * time.Second

	// partTime is how long one may be on its way before it counts as lost. Then the link became slower by far
	// than it was, and the next piece is smaller.
	partTime = 2 * time.Minute

	// The sizes of the first piece, before anything is known of the link, and of the least one: that takes
	// less than half of partTime at 1.2 kB/s.
	firstPiece = 256 << 10
	leastPiece = 64 << 10
)

// link is what uploads have learnt of the way to the origin: how much it carries, by what the origin has
// acknowledged. What a socket took says nothing, since its buffer holds more than a slow link carries in a
// minute, and neither does it where a proxy stands between.
//
// A slow link gets one piece at a time, a part of a block that it carries in pieceTime, so that each step is
// acknowledged soon and parallel blocks don't share what is too little for one. A fast one gets whole blocks
// in parallel.
type link struct {
	mu      sync.Mutex
	rate    float64       // bytes per second of all pieces together; 0: not known yet
	running int           // pieces on their way
	ended   chan struct{} // closed when one of them has ended
}

func newLink() *link { return &link{ended: make(chan struct{})} }

// begin waits until a further piece may be sent, and returns its size: at most left, in bytes. done must be
// called when the origin has acknowledged it, or when that failed.
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

// piece returns how much the link carries in pieceTime. The caller holds l.mu.
func (l *link) piece() int64 {
	if l.rate == 0 {
		return firstPiece
	}
	return min(max(leastPiece, int64(l.rate*pieceTime.Seconds())), update.BlockSize)
}

// slow reports whether an upload found that the link does not carry a block in pieceTime.
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
		// Whatever it was, the next try costs less.
		l.rate = float64(l.piece()) / pieceTime.Seconds() / 2
	case size >= leastPiece:
		// The pieces that are on their way share the link. A smaller one tells more of the round trip than of
		// the link.
		l.rate = float64(size) * float64(l.running) / max(took.Seconds(), 1e-3)
	}
	l.running--
	close(l.ended)
	l.ended = make(chan struct{})
}
