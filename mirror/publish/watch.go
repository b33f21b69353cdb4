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
	stallBytes = 64 << 10         // so many bytes must pass
	stallTime  = 30 * time.Second // within that time
	answerTime = 2 * time.Minute  // from the end of what is sent to the beginning of the answer
)

var errStalled = errors.New("stalled")

// watch ends a request that does not go forward.
type watch struct {
	cancel context.CancelCauseFunc
	ctx    context.Context
	timer  *time.Timer
	answer time.Duration

	mu    sync.Mutex // held while a body is read
	ended bool
}

// newWatch returns a context for a request, which ends after the answer did not begin for so long,
// 0: answerTime.
func newWatch(ctx context.Context, answer time.Duration) (context.Context, *watch) {
	w := &watch{answer: answer}
	if answer == 0 {
		w.answer = answerTime
	}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	w.timer = time.AfterFunc(w.answer, func() { w.cancel(errStalled) })
	return w.ctx, w
}

// moved says that stallBytes have passed.
func (w *watch) moved() { w.timer.Reset(stallTime) }

// sent says that nothing is left to send.
func (w *watch) sent() { w.timer.Reset(w.answer) }

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

// counted moves a watch on with the bytes that pass.
type counted struct {
	io.Reader
	w    *watch
	some int // bytes since the watch was moved
}

// Read counts what passes.
func (c *counted) Read(p []byte) (int, error) {
	if len(p) > stallBytes {
		p = p[:stallBytes]
	}
	n, err := c.Reader.Read(p)
	if c.some += n; c.some >= stallBytes {
		c.some = 0
		c.w.moved()
	}
	return n, err
}

// sending is the body of a request.
type sending struct {
	counted
	left int
}

// Read says when nothing is left to send.
func (s *sending) Read(p []byte) (int, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if s.w.ended {
		return 0, fs.ErrClosed
	}
	n, err := s.counted.Read(p)
	if s.left -= n; n > 0 && s.left <= 0 {
		s.w.sent()
	}
	return n, err
}

// Close does nothing.
func (s *sending) Close() error { return nil }

// receiving is the body of an answer. What the watch ended says so.
type receiving struct {
	counted
	body io.Closer
}

// Read reads on.
func (r *receiving) Read(p []byte) (int, error) {
	n, err := r.counted.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = r.w.why(err)
	}
	return n, err
}

// Close ends the request.
func (r *receiving) Close() error {
	defer r.w.stop()
	return r.body.Close()
}

// attach makes body the body of a request, watched while it is sent.
func (w *watch) attach(req *http.Request, body []byte) {
	req.ContentLength = int64(len(body))
	req.GetBody = func() (io.ReadCloser, error) {
		return &sending{counted{bytes.NewReader(body), w, 0}, len(body)}, nil
	}
	req.Body, _ = req.GetBody() // never fails
}

// untrusted reports whether TLS failed because the server is not who it should be.
func untrusted(err error) bool {
	var certificate *tls.CertificateVerificationError
	var header tls.RecordHeaderError
	return errors.As(err, &certificate) || errors.As(err, &header)
}
