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

	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

const (
	// bodyMemory is how many bytes the bodies of those who know the ID of a staged list take together.
	// Four blocks arrive at a time.
	bodyMemory = 4 * update.BlockSize

	// bodyWait is how long a request waits for its share.
	bodyWait = 3 * time.Second

	// restWait is how long the rest of a body, which nobody wants, may take before the answer.
	restWait = time.Second
)

var (
	errLength   error = status.NoLength
	errTooLarge error = status.TooLarge
	errSlow     error = status.Slow
	errCut      error = status.Cut
	errBusy     error = status.Busy
)

// bodies holds the memory for all bodies of requests.
type bodies struct {
	known    *semaphore.Weighted // of those who know the ID of a staged list
	uploads  *uploads            // of anybody
	checking *semaphore.Weighted // held while a proposal is looked at, which takes memory too
	small    *semaphore.Weighted // the same for small ones, which wait for no large one
	blocks   sync.Pool           // *[]byte of the length of a block
}

func newBodies() *bodies {
	return &bodies{
		known:    semaphore.NewWeighted(bodyMemory),
		uploads:  newUploads(),
		checking: semaphore.NewWeighted(1),
		small:    semaphore.NewWeighted(1),
		blocks:   sync.Pool{New: func() any { b := make([]byte, update.BlockSize); return &b }},
	}
}

// acquire waits for a share of a semaphore, and returns what gives it back. The error is errBusy where it
// takes too long.
func acquire(ctx context.Context, n int64, from *semaphore.Weighted) (release func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, bodyWait)
	defer cancel()
	if from.Acquire(ctx, n) != nil {
		return nil, errBusy
	}
	return func() { from.Release(n) }, nil
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
	release, err := acquire(r.Context(), r.ContentLength, rt.bodies.known)
	if err != nil {
		return nil, nil, err
	}
	body, back := rt.bodies.buffer(r.ContentLength)
	done = func() {
		back()
		release()
	}
	from := rt.paced(r.Body, r.ContentLength, http.NewResponseController(w).SetReadDeadline)
	if _, err := io.ReadFull(from, body); err != nil {
		done()
		return nil, nil, err
	}
	w.whole = true
	return body, done, nil
}

// A pacedBody is a body that must keep coming: each window must bring its part of it. There is no total
// time.
type pacedBody struct {
	body        io.Reader
	setDeadline func(time.Time) error

	window time.Duration
	part   int64         // bytes that a window must bring
	first  time.Duration // how long the first byte may take; 0: a window, as any other

	size, have int64
	ends       int64 // the window has brought its part with so many bytes of the body
	why        error // the window has not
}

// paced returns a body of that size, at the pace of the configuration.
func (rt *router) paced(body io.Reader, size int64, setDeadline func(time.Time) error) *pacedBody {
	return &pacedBody{
		body:        body,
		size:        size,
		setDeadline: setDeadline,
		window:      rt.config.BodyWindow,
		part:        max(1, int64(float64(rt.config.BodyRate)*rt.config.BodyWindow.Seconds())),
	}
}

// Read reads from the body. The errors are errSlow, errCut where it ends early, and those of setDeadline.
func (b *pacedBody) Read(p []byte) (int, error) {
	if b.have >= b.ends {
		if err := b.begin(); err != nil {
			return 0, err
		}
	}
	n, err := b.body.Read(p)
	b.have += int64(n)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		if err = b.setDeadline(time.Now()); err == nil {
			err = b.why
		}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		err = fmt.Errorf("%w: %d of %d bytes came", errCut, b.have, b.size)
	}
	return n, err
}

// begin begins a window.
func (b *pacedBody) begin() error {
	window, part := b.window, min(b.part, b.size-b.have)
	if b.first > 0 && b.have == 0 {
		window, part = b.first, 1
	}
	b.ends = b.have + part
	b.why = fmt.Errorf("%w: fewer than %d bytes in %v", errSlow, part, window)
	return b.setDeadline(time.Now().Add(window))
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
