package publish

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/internal/pace"
	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/origin"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

// Error is the error of a request. errors.Is finds in it the error of the origin: trust.ErrConflict if another signer was
// faster (then errors.As finds an *origin.ConflictError too), disk.ErrNoSpace, and those that docs/PUBLISH.md lists.
type Error struct {
	Method, URL string
	Status      int    // 0: there was no answer
	Hint        string // what to do; "": not known
	Err         error

	retryAfter time.Duration
}

// Error names the request and the error.
func (e *Error) Error() string {
	if e.Status == 0 {
		return fmt.Sprintf("%s %s: %v", e.Method, e.URL, e.Err)
	}
	return fmt.Sprintf("%s %s: %d %s: %v", e.Method, e.URL, e.Status, http.StatusText(e.Status), e.Err)
}

// Unwrap returns the wrapped error.
func (e *Error) Unwrap() error { return e.Err }

// errAnswer says that an answer does not follow the protocol.
var errAnswer = errors.New("unexpected answer")

// request is one exchange with the server.
type request struct {
	method string
	path   []string // below the URL; the last may be "" for a slash at the end
	header http.Header
	body   []byte        // of a PUT
	expect bool          // ask whether the body is wanted before it is sent
	wait   time.Duration // for the answer to begin; 0: answerTime, and what the body takes at leastRate
}

// do sends a request and returns the answer if it is a 2xx or 304; the caller closes its body. Every
// error is an *Error.
func (r *Remote) do(ctx context.Context, q request) (*http.Response, error) {
	header := http.Header{"Accept-Encoding": {"identity"}} // so that lengths and digests are those of the file
	maps.Copy(header, q.header)
	resp, err := r.server.Send(ctx, fetch.Request{
		Method: q.method, File: strings.Join(q.path, "/"), Header: header, Body: q.body, Expect: q.expect,
		Wait: cmp.Or(q.wait, waitFor(len(q.body))),
	})
	if err != nil {
		e := &Error{Method: q.method, URL: r.at(q.path...), Err: err}
		if errors.Is(err, fetch.ErrRefused) { // a redirect that is not followed
			e.Hint = redirectHint
		}
		return nil, e
	}
	r.answered.Store(true)
	if resp.StatusCode/100 == 2 || resp.StatusCode == http.StatusNotModified {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, refusal(q.method, r.at(q.path...), resp)
}

// exchange sends a request and returns the status and the whole body of the answer.
func (r *Remote) exchange(ctx context.Context, q request, limit int64) (int, []byte, error) {
	resp, err := r.do(ctx, q)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	raw, err := disk.ReadAll(resp.Body, limit)
	if errors.Is(err, disk.ErrTooLong) {
		err = fmt.Errorf("%w: %w", errAnswer, err)
	}
	if err != nil {
		return 0, nil, &Error{Method: q.method, URL: r.at(q.path...), Err: explain.Network(err)}
	}
	return resp.StatusCode, raw, nil
}

// ask sends a request, and passes the answer to parse.
func (r *Remote) ask(ctx context.Context, q request, parse func([]byte) error) error {
	status, raw, err := r.exchange(ctx, q, maxAnswer)
	if err != nil {
		return err
	}
	if err := parse(raw); err != nil {
		return &Error{Method: q.method, URL: r.at(q.path...), Status: status, Err: err}
	}
	return nil
}

const maxFailure = 64 << 10

// refusal returns the error for an answer that is no success.
func refusal(method, target string, resp *http.Response) *Error {
	e := &Error{Method: method, URL: target, Status: resp.StatusCode, retryAfter: pace.ParseRetryAfter(resp.Header.Get("Retry-After"), time.Now())}
	raw, err := disk.ReadAll(resp.Body, maxFailure)
	if f, ok := parseFailure(raw); ok && err == nil {
		e.Err, e.Hint = f.Err(), f.Hint
		return e
	}
	e.Hint, e.Err = explainStatus(resp)
	return e
}

// errRefused is a refusal that does not come from an origin.
var errRefused = errors.New("refused, but not by an origin")

const redirectHint = "use the URL that it redirects to, if you trust that one"

// explainStatus returns the hint and the error for an answer that does not come from an origin.
func explainStatus(resp *http.Response) (hint string, err error) {
	switch s := resp.StatusCode; {
	case s/100 == 3:
		return redirectHint, fmt.Errorf("%w: it redirects to %.200q", errRefused, resp.Header.Get("Location"))
	case s == http.StatusNotFound:
		return "is this the URL of an origin? a mirror accepts no publishes, nor does an origin without its online key", errRefused
	case s == http.StatusConflict:
		return "", fmt.Errorf("%w: %w", errRefused, trust.ErrConflict)
	case s == http.StatusRequestEntityTooLarge:
		return "make the proxy in front of the server accept bodies of 10 MB", errRefused
	case s == http.StatusInsufficientStorage:
		return "", fmt.Errorf("%w: %w", errRefused, disk.ErrNoSpace)
	case s == http.StatusMethodNotAllowed:
		return "a mirror accepts no publishes: use the URL of the origin", errRefused
	}
	return "", errRefused
}

// lasting reports whether a retry would end with the same error.
func (r *Remote) lasting(err error) bool {
	var e *Error
	if !errors.As(err, &e) || errors.Is(err, errAnswer) {
		return true
	}
	switch e.Status {
	case 0:
		// Report a wrong URL at once, and a server that is another one now.
		return !r.answered.Load() || untrusted(err) || errors.Is(err, fetch.ErrRefused)
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusGatewayTimeout:
		return false
	case http.StatusServiceUnavailable:
		return errors.Is(err, origin.ErrNoKey) || errors.Is(err, origin.ErrAhead) || errors.Is(err, origin.ErrJump)
	}
	return true
}

// untrusted reports whether TLS failed because this is not the right server.
func untrusted(err error) bool {
	var certificate *tls.CertificateVerificationError
	var header tls.RecordHeaderError
	return errors.As(err, &certificate) || errors.As(err, &header)
}

// pauses are the pauses after failures in a row.
var pauses = pace.Backoff{First: 250 * time.Millisecond, Most: 15 * time.Second}

// patience is how long a publish continues without progress. Blocks that are sent in parallel share one.
type patience struct {
	limit time.Duration

	mu   sync.Mutex
	last time.Time // of the last progress
}

func newPatience(limit time.Duration) *patience { return &patience{limit: limit, last: time.Now()} }

func (p *patience) renew() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = time.Now()
}

func (p *patience) left() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.limit - time.Since(p.last)
}

// retry calls f until it succeeds, its error is lasting, or the patience ends. fetch.Client.Ask would not do: it measures
// progress by the bytes that come, in one call. Here only acknowledged requests count, and those of all parallel calls.
func (r *Remote) retry(ctx context.Context, p *patience, f func() error) error {
	for failures := 1; ; failures++ {
		err := f()
		if err == nil {
			p.renew()
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if r.lasting(err) {
			return err
		}
		wait := pauses.Spread(failures, rand.Float64())
		var e *Error
		if errors.As(err, &e) && e.retryAfter > wait {
			// Clients that the server sent away together must not come back together.
			wait = e.retryAfter + rand.N(pauses.First)
		}
		if wait > p.left() {
			return fmt.Errorf("given up after %v without progress: %w", p.limit, err)
		}
		if r.c.Waiting != nil {
			r.c.Waiting(err, wait)
		}
		if pace.Sleep(ctx, wait) != nil {
			return context.Cause(ctx)
		}
	}
}
