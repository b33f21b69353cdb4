package router

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/openpowerquality/box-update-server/update"
)

const (
	// bodyMemory is how many bytes all bodies together take. Four blocks arrive at a time.
	bodyMemory = 4 * update.BlockSize

	// strangerMemory is how many of them are for bodies of whom nothing is known. The rest stays
	// for those who know the ID of a staged list.
	strangerMemory = 6 << 20

	// bodyWait is how long a request waits for its share.
	bodyWait = 3 * time.Second

	// restWait is how long the rest of a body, which nobody wants, may take before the answer.
	restWait = time.Second
)

var (
	errLength   = errors.New("the request has no Content-Length")
	errTooLarge = errors.New("the body is too large")
	errSlow     = errors.New("the body came too slowly")
	errCut      = errors.New("the body ended early")
	errBusy     = errors.New("too many bodies at once")
)

// bodies holds the memory for all bodies of requests.
type bodies struct {
	all      *semaphore.Weighted
	stranger *semaphore.Weighted
	checking *semaphore.Weighted // whoever holds it looks at a proposal, which takes memory too
	blocks   sync.Pool           // *[]byte of the length of a block

	strangers strangers
}

func newBodies() *bodies {
	return &bodies{
		all:      semaphore.NewWeighted(bodyMemory),
		stranger: semaphore.NewWeighted(strangerMemory),
		checking: semaphore.NewWeighted(1),
		blocks:   sync.Pool{New: func() any { b := make([]byte, update.BlockSize); return &b }},

		strangers: strangers{grace: strangerGrace},
	}
}

// acquire waits for a share of some semaphores, in this order, and returns what gives it back. The
// error is errBusy where it takes too long.
func acquire(ctx context.Context, n int64, from ...*semaphore.Weighted) (release func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, bodyWait)
	defer cancel()
	for i, s := range from {
		if s.Acquire(ctx, n) != nil {
			err, from = errBusy, from[:i]
			break
		}
	}
	release = func() {
		for _, s := range from {
			s.Release(n)
		}
	}
	if err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// buffer returns n bytes, and what gives them back.
func (b *bodies) buffer(n int64) (buf []byte, done func()) {
	if n > update.BlockSize || n < update.BlockSize/2 {
		return make([]byte, n), func() {}
	}
	whole := b.blocks.Get().(*[]byte)
	return (*whole)[:n], func() { b.blocks.Put(whole) }
}

// checkLength refuses a body by what the header says of it.
func checkLength(r *http.Request, limit int64) error {
	switch {
	case r.ContentLength < 0, r.ContentLength == 0 && limit > 0 && r.Header["Content-Length"] == nil:
		return errLength
	case r.ContentLength > limit:
		return fmt.Errorf("%w: %d bytes, at most %d", errTooLarge, r.ContentLength, limit)
	}
	return nil
}

// body reads the body of a request whose length was checked, within a share of memory that is waited
// for. The caller calls done when it needs the bytes no more.
func (rt *router) body(w *reply, r *http.Request) (body []byte, done func(), err error) {
	release, err := acquire(r.Context(), r.ContentLength, rt.bodies.all)
	if err != nil {
		return nil, nil, err
	}
	return rt.within(w, r, r.Body, release)
}

// strangersBody is body for somebody of whom nothing is known.
func (rt *router) strangersBody(w *reply, r *http.Request) (body []byte, done func(), err error) {
	release, err := rt.bodies.admit(r.Context(), r.ContentLength)
	if err != nil {
		return nil, nil, err
	}
	s := &stranger{Reader: r.Body, conn: connOf(r), size: r.ContentLength, began: time.Now()}
	defer rt.bodies.strangers.come(s)()
	return rt.within(w, r, s, release)
}

// within reads a body for which there is memory, which release gives back.
func (rt *router) within(w *reply, r *http.Request, from io.Reader, release func()) (body []byte, done func(), err error) {
	body, back := rt.bodies.buffer(r.ContentLength)
	done = func() {
		back()
		release()
	}
	if err := rt.fill(w, from, body); err != nil {
		done()
		return nil, nil, err
	}
	return body, done, nil
}

// fill reads as many bytes as buf has. Each window must bring its part; there is no total time.
func (rt *router) fill(w *reply, from io.Reader, buf []byte) error {
	control := http.NewResponseController(w)
	part := max(1, int(float64(rt.config.BodyRate)*rt.config.BodyWindow.Seconds()))
	for have := 0; have < len(buf); {
		if err := control.SetReadDeadline(time.Now().Add(rt.config.BodyWindow)); err != nil {
			return err
		}
		n, err := io.ReadAtLeast(from, buf[have:], min(part, len(buf)-have))
		have += n
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("%w: fewer than %d bytes in %v", errSlow, part, rt.config.BodyWindow)
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return fmt.Errorf("%w: %d of %d bytes came", errCut, have, len(buf))
		case err != nil:
			return err
		}
	}
	w.whole = true
	return nil
}

// giveUp is called before an answer that does not depend on the rest of the body. net/http reads a
// little of it, for the connection to go on with the next request; a client that does not send it must
// not wait for its answer.
func giveUp(w *reply, r *http.Request) {
	if r.ContentLength != 0 && !w.whole {
		// Where it fails the connection is broken, or not net/http's.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(restWait))
	}
}
