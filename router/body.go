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
	// bodyMemory bounds the memory of all bodies that are sent under the ID of a staged list, in bytes: four blocks
	// at a time.
	bodyMemory = 4 * update.BlockSize

	// bodyWait is how long a request waits for memory.
	bodyWait = 3 * time.Second

	// restWait is how long the rest of an unwanted body may delay the answer.
	restWait = time.Second
)

var (
	errLength   error = status.NoLength
	errTooLarge error = status.TooLarge
	errSlow     error = status.Slow
	errCut      error = status.Cut
	errBusy     error = status.Busy
)

// bodies shares out the memory for the bodies of all requests.
type bodies struct {
	staged     *semaphore.Weighted // bytes of bodies under the ID of a staged list
	uploads    *uploads            // lists and roots, which anybody may send
	checkLarge *semaphore.Weighted // held while a proposal is checked, which takes memory too
	checkSmall *semaphore.Weighted // the same for small proposals, which must not wait for a large one
	blocks     sync.Pool           // *[]byte of the length of a block
}

func newBodies() *bodies {
	return &bodies{
		staged:     semaphore.NewWeighted(bodyMemory),
		uploads:    newUploads(),
		checkLarge: semaphore.NewWeighted(1),
		checkSmall: semaphore.NewWeighted(1),
		blocks:     sync.Pool{New: func() any { b := make([]byte, update.BlockSize); return &b }},
	}
}

// acquire takes n from a semaphore; the caller calls release to give it back. It returns errBusy after waiting for
// bodyWait, or when ctx is done.
func acquire(ctx context.Context, n int64, from *semaphore.Weighted) (release func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, bodyWait)
	defer cancel()
	if from.Acquire(ctx, n) != nil {
		return nil, errBusy
	}
	return func() { from.Release(n) }, nil
}

// buffer returns n bytes. The caller calls done when it no longer needs them. Only buffers of about the size of a
// block are pooled.
func (b *bodies) buffer(n int64) (buf []byte, done func()) {
	if n > update.BlockSize || n < update.BlockSize/2 {
		return make([]byte, n), func() {}
	}
	whole := b.blocks.Get().(*[]byte)
	return (*whole)[:n], func() { b.blocks.Put(whole) }
}

// checkLength checks the length of a body that the header declares. It returns errLength if there is none, and
// errTooLarge if it is over limit bytes. Where no body is expected, and limit is 0, the header may be missing.
func checkLength(r *http.Request, limit int64) error {
	switch {
	case r.ContentLength < 0, r.ContentLength == 0 && limit > 0 && r.Header["Content-Length"] == nil:
		return errLength
	case r.ContentLength > limit:
		return fmt.Errorf("%w: %d bytes, at most %d", errTooLarge, r.ContentLength, limit)
	}
	return nil
}

// body reads the body of a request whose length was checked, for which it waits for memory. It returns errBusy if
// none becomes free. The caller calls done when it no longer needs the bytes.
func (rt *router) body(w *reply, r *http.Request) (body []byte, done func(), err error) {
	release, err := acquire(r.Context(), r.ContentLength, rt.bodies.staged)
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

// A pacedBody is a body that must keep coming: in each window, part bytes must arrive. There is no limit on the total
// time.
type pacedBody struct {
	body        io.Reader
	setDeadline func(time.Time) error

	window time.Duration
	part   int64         // bytes that must arrive in a window
	first  time.Duration // how long the first byte may take; 0: a window, as any other

	size, have int64
	ends       int64 // the window is fulfilled when have reaches it
	why        error // the error if the window is not fulfilled
}

// paced returns a body of size bytes that must come at Config.BodyRate over Config.BodyWindow. setDeadline sets the
// read deadline of the request.
func (rt *router) paced(body io.Reader, size int64, setDeadline func(time.Time) error) *pacedBody {
	return &pacedBody{
		body:        body,
		size:        size,
		setDeadline: setDeadline,
		window:      rt.config.BodyWindow,
		part:        max(1, int64(float64(rt.config.BodyRate)*rt.config.BodyWindow.Seconds())),
	}
}

// Read reads from the body. It returns errSlow if the body comes too slowly, errCut if it ends early, and any error
// of setDeadline.
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
		err = b.why
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		err = fmt.Errorf("%w: %d of %d bytes came", errCut, b.have, b.size)
	}
	return n, err
}

// begin starts a window, whose end becomes the read deadline.
func (b *pacedBody) begin() error {
	window, part := b.window, min(b.part, b.size-b.have)
	if b.first > 0 && b.have == 0 {
		window, part = b.first, 1
	}
	b.ends = b.have + part
	b.why = fmt.Errorf("%w: fewer than %d bytes in %v", errSlow, part, window)
	return b.setDeadline(time.Now().Add(window))
}

// boundRest must be called before an answer that does not need the rest of the body. net/http reads some of that rest
// before it answers, so that the connection can take the next request. boundRest bounds this to restWait, so that a
// client which sends no more gets its answer.
func boundRest(w *reply, r *http.Request) {
	if r.ContentLength != 0 && !w.whole {
		// It fails only if the connection is broken or is not net/http's.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(restWait))
	}
}
