package publish

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"sync"
	"time"
)

// When a request counts as stalled.
const (
	stallBytes = 64 << 10         // so many bytes of an answer must pass
	stallTime  = 30 * time.Second // within that time
	answerTime = 2 * time.Minute  // until the answer begins
	leastRate  = 4000             // bytes per second that a body is given time for beyond that, as the origin gives it
)

var errStalled = errors.New("stalled")

// watch ends a request that does not go forward.
type watch struct {
	cancel context.CancelCauseFunc
	ctx    context.Context
	timer  *time.Timer

	mu    sync.Mutex // held while a body is read
	ended bool
}

// newWatch returns a context for a request, which ends when the answer has not begun after so long.
func newWatch(ctx context.Context, answer time.Duration) (context.Context, *watch) {
	w := &watch{}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	w.timer = time.AfterFunc(answer, func() { w.cancel(errStalled) })
	return w.ctx, w
}

// moved says that the answer has begun, or that stallBytes more of it have passed.
func (w *watch) moved() { w.timer.Reset(stallTime) }

// stop ends the request. The bytes of its body are the caller's again: the transport may go on reading
// it for a while.
func (w *watch) stop() {
	w.timer.Stop()
	w.cancel(nil)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
}

// why ends the request and returns the reason for err.
func (w *watch) why(err error) error {
	if cause := context.Cause(w.ctx); errors.Is(cause, errStalled) {
		err = fmt.Errorf("%w: nothing went forward for too long", errStalled)
	}
	w.stop()
	return err
}

// sending is the body of a request.
type sending struct {
	io.Reader
	w *watch
}

// Read reads nothing more once the request has ended.
func (s sending) Read(p []byte) (int, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if s.w.ended {
		return 0, fs.ErrClosed
	}
	return s.Reader.Read(p)
}

// Close does nothing.
func (s sending) Close() error { return nil }

// receiving is the body of an answer. What the watch ended says so.
type receiving struct {
	io.ReadCloser
	w    *watch
	some int // bytes since the watch was moved
}

// Read reads on.
func (r *receiving) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p[:min(len(p), stallBytes)])
	if r.some += n; r.some >= stallBytes {
		r.some = 0
		r.w.moved()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = r.w.why(err)
	}
	return n, err
}

// Close ends the request.
func (r *receiving) Close() error {
	defer r.w.stop()
	return r.ReadCloser.Close()
}

// attach makes body the body of a request.
func (w *watch) attach(req *http.Request, body []byte) {
	req.ContentLength = int64(len(body))
	req.GetBody = func() (io.ReadCloser, error) { return sending{bytes.NewReader(body), w}, nil }
	req.Body, _ = req.GetBody() // never fails
}

// untrusted reports whether TLS failed because the server is not who it should be.
func untrusted(err error) bool {
	var certificate *tls.CertificateVerificationError
	var header tls.RecordHeaderError
	return errors.As(err, &certificate) || errors.As(err, &header)
}
