package router

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// strangerGrace is how long a body may come as slowly as BodyRate allows while others wait for its
	// memory.
	strangerGrace = 5 * time.Second

	// makeWayAfter is how long others wait before somebody has to make way.
	makeWayAfter = time.Second
)

// errMadeWay says that a body had to make way for others.
var errMadeWay = fmt.Errorf("%w: others waited for the memory that it took", errSlow)

// A stranger is a body of somebody of whom nothing is known, while it comes. It counts what is read of it.
type stranger struct {
	io.Reader
	conn  *conn // nil where the server is not a Server: it makes way for nobody
	size  int64
	began time.Time
	have  atomic.Int64
	gone  atomic.Bool // it makes way
}

// Read reads from the body. The error is errMadeWay where it makes way.
func (s *stranger) Read(p []byte) (int, error) {
	if s.gone.Load() {
		return 0, errMadeWay
	}
	n, err := s.Reader.Read(p)
	s.have.Add(int64(n))
	if errors.Is(err, os.ErrDeadlineExceeded) && s.gone.Load() {
		err = errMadeWay
	}
	return n, err
}

// rate returns how many bytes per second came until now.
func (s *stranger) rate(now time.Time) float64 {
	return float64(s.have.Load()) / now.Sub(s.began).Seconds()
}

// strangers are the bodies that come now. A few of them, each as slow as is allowed, would keep all others
// from being heard.
type strangers struct {
	grace time.Duration

	mu     sync.Mutex
	coming map[*stranger]struct{}
}

// admit waits for the memory of a body of a stranger. Where it takes long, the slowest of the others make
// way. The error is errBusy where that does not help either.
func (b *bodies) admit(ctx context.Context, n int64) (release func(), err error) {
	short, cancel := context.WithTimeout(ctx, makeWayAfter)
	defer cancel()
	if release, err = acquire(short, n, b.stranger, b.all); err == nil {
		return release, nil
	}
	b.strangers.makeWay(n, time.Now())
	return acquire(ctx, n, b.stranger, b.all)
}

// come adds a body until gone is called.
func (l *strangers) come(s *stranger) (gone func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.coming == nil {
		l.coming = map[*stranger]struct{}{}
	}
	l.coming[s] = struct{}{}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.coming, s)
	}
}

// makeWay ends the slowest bodies until n bytes of memory come free, those excepted that have just begun.
func (l *strangers) makeWay(n int64, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var slow []*stranger
	for s := range l.coming {
		if s.conn != nil && now.Sub(s.began) >= l.grace {
			slow = append(slow, s)
		}
	}
	slices.SortFunc(slow, func(a, b *stranger) int { return cmp.Compare(a.rate(now), b.rate(now)) })
	for _, s := range slow {
		if n <= 0 {
			return
		}
		n -= s.size
		// First the mark: whoever sets a later deadline now looks at it afterwards.
		s.gone.Store(true)
		_ = s.conn.TCPConn.SetReadDeadline(now) // fails where the connection is gone
	}
}
