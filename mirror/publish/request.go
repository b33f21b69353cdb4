package publish

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/origin"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/store"
)

// Error is a request that failed. errors.Is finds in it what was wrong at the origin: trust.ErrConflict
// where somebody else was faster (then errors.As finds the *origin.ConflictError too),
// store.ErrNoSpace, and whatever else docs/PUBLISH.md names.
type Error struct {
	Method, URL string
	Status      int    // 0: there was no answer
	Hint        string // what to do, "" where nobody knows
	Err         error

	retryAfter time.Duration
}

// Error says which request failed, and how.
func (e *Error) Error() string {
	if e.Status == 0 {
		return fmt.Sprintf("%s %s: %v", e.Method, e.URL, e.Err)
	}
	return fmt.Sprintf("%s %s: %d %s: %v", e.Method, e.URL, e.Status, http.StatusText(e.Status), e.Err)
}

// Unwrap returns what was wrong.
func (e *Error) Unwrap() error { return e.Err }

// errAnswer says that an answer is not what the protocol says.
var errAnswer = errors.New("unexpected answer")

// request is one exchange with the server.
type request struct {
	method string
	path   []string // below the URL; the last may be "" for a slash at the end
	header http.Header
	body   []byte        // of a PUT
	expect bool          // ask before the body is sent
	wait   time.Duration // for the answer to begin; 0: answerTime, and what the body takes at leastRate
}

// do sends a request and returns the answer if it is a 2xx or 304; the caller closes its body. Every
// error is an *Error.
func (r *Remote) do(ctx context.Context, q request) (*http.Response, error) {
	target := r.base.JoinPath(q.path...).String()
	if q.wait == 0 {
		q.wait = answerTime + time.Duration(len(q.body))*time.Second/leastRate
	}
	ctx, w := newWatch(ctx, q.wait)
	req, err := http.NewRequestWithContext(ctx, q.method, target, nil)
	if err != nil {
		w.stop()
		return nil, &Error{Method: q.method, URL: target, Err: err}
	}
	if q.header != nil {
		req.Header = q.header
	}
	req.Header.Set("User-Agent", r.c.UserAgent)
	req.Header.Set("Accept-Encoding", "identity")
	if len(q.body) > 0 {
		w.attach(req, q.body)
		if q.expect {
			req.Header.Set("Expect", "100-continue")
		}
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, &Error{Method: q.method, URL: target, Err: explain.Network(w.why(err))} // method and URL are said once
	}
	r.answered.Store(true)
	w.moved()
	resp.Body = &receiving{ReadCloser: resp.Body, w: w}
	if resp.StatusCode/100 == 2 || resp.StatusCode == http.StatusNotModified {
		return resp, nil
	}
	defer resp.Body.Close() // read to its end or given up
	return nil, refusal(q.method, target, resp)
}

// exchange sends a request and returns the status and the whole body of the answer.
func (r *Remote) exchange(ctx context.Context, q request, limit int64) (int, []byte, error) {
	resp, err := r.do(ctx, q)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close() // read to its end or given up
	raw, err := readUpTo(resp.Body, limit, errAnswer)
	if err != nil {
		return 0, nil, &Error{Method: q.method, URL: r.base.JoinPath(q.path...).String(), Err: explain.Network(err)}
	}
	return resp.StatusCode, raw, nil
}

// ask sends a request whose answer parse understands, or refuses.
func (r *Remote) ask(ctx context.Context, q request, parse func([]byte) error) error {
	status, raw, err := r.exchange(ctx, q, maxAnswer)
	if err != nil {
		return err
	}
	if err := parse(raw); err != nil {
		return &Error{Method: q.method, URL: r.base.JoinPath(q.path...).String(), Status: status, Err: err}
	}
	return nil
}

const maxFailure = 64 << 10

// refusal makes an error of an answer that is none of success.
func refusal(method, target string, resp *http.Response) *Error {
	e := &Error{Method: method, URL: target, Status: resp.StatusCode, retryAfter: retryAfter(resp.Header.Get("Retry-After"))}
	raw, err := readUpTo(resp.Body, maxFailure, errAnswer)
	if f, ok := parseFailure(raw); ok && err == nil {
		e.Err, e.Hint = f.Err(), f.Hint
		return e
	}
	e.Hint, e.Err = byStatus(resp)
	return e
}

// errRefused is a refusal that no origin explained.
var errRefused = errors.New("refused, and not by an origin")

// byStatus says what an answer means that does not come from an origin.
func byStatus(resp *http.Response) (hint string, err error) {
	switch s := resp.StatusCode; {
	case s/100 == 3:
		return "give the URL that it leads to, if you trust that one", fmt.Errorf("%w: it leads to %.200q", errRefused, resp.Header.Get("Location"))
	case s == http.StatusNotFound:
		return "is it the URL of an origin? a mirror takes no publishes, and neither does an origin without its online key", errRefused
	case s == http.StatusConflict:
		return "", fmt.Errorf("%w: %w", errRefused, trust.ErrConflict)
	case s == http.StatusRequestEntityTooLarge:
		return "a proxy before the server must let bodies of 10 MB pass", errRefused
	case s == http.StatusInsufficientStorage:
		return "", fmt.Errorf("%w: %w", errRefused, store.ErrNoSpace)
	case s == http.StatusMethodNotAllowed:
		return "a mirror takes no publishes: give the URL of the origin", errRefused
	}
	return "", errRefused
}

// retryAfter parses the header (RFC 9110, section 10.2.3), 0 where it says nothing.
func retryAfter(s string) time.Duration {
	if seconds, err := strconv.ParseUint(s, 10, 20); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(s); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}

// lasting reports whether an error stays when the same is tried again.
func (r *Remote) lasting(err error) bool {
	var e *Error
	if !errors.As(err, &e) || errors.Is(err, errAnswer) {
		return true
	}
	switch e.Status {
	case 0:
		// A URL with a mistake in it is told at once.
		return !r.answered.Load() || untrusted(err)
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusGatewayTimeout:
		return false
	case http.StatusServiceUnavailable:
		return errors.Is(err, origin.ErrNoKey) || errors.Is(err, origin.ErrAhead) || errors.Is(err, origin.ErrJump)
	}
	return true
}
