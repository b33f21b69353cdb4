package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/internal/pace"
)

// maxRedirects bounds how many redirects are followed.
const maxRedirects = 5

// checkRedirect lets an upstream redirect within its origin, and to listed ones.
func (c *Client) checkRedirect(r *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return fmt.Errorf("%w: expected at most %d redirects", ErrRefused, maxRedirects)
	}
	to, own := originOf(r.URL), originOf(via[0].URL)
	if to == own {
		return nil
	}
	for _, o := range c.origins {
		if o == to {
			return nil
		}
	}
	return fmt.Errorf("%w: redirect to %s: expected its own origin, or one that is listed for redirects", ErrRefused, to)
}

// answer is an HTTP answer whose body is watched. The caller closes it.
type answer struct {
	*http.Response
	body *body
}

func (a *answer) close() { a.body.close() }

// get asks for a file, without looking at the status.
func (u *Upstream) get(ctx context.Context, file string, header http.Header) (*answer, error) {
	c := u.client
	watched, cancel := context.WithCancelCause(ctx)
	r, err := http.NewRequestWithContext(watched, http.MethodGet, u.url(file), nil)
	if err != nil {
		cancel(nil)
		return nil, u.failf(file, "%w", err)
	}
	r.Header = header
	r.Header.Set("User-Agent", c.c.UserAgent)
	race, patience := raceOf(ctx), patienceOf(ctx)
	race.asked(file, header)
	race.begin()
	patience.begin()
	resp, err := c.http.Do(r)
	patience.came(0)
	race.end(0)
	if err != nil {
		cancel(nil)
		return nil, u.unanswered(ctx, file, err)
	}
	return &answer{resp, newBody(watched, cancel, c, counted{resp.Body, &u.received})}, nil
}

// unanswered returns the error for a request that got no answer.
func (u *Upstream) unanswered(ctx context.Context, file string, err error) error {
	if ctx.Err() != nil {
		return u.failf(file, "%w", context.Cause(ctx))
	}
	err = explain.Network(err) // without the URL, which is in the message already
	if errors.Is(err, ErrRefused) {
		return u.failf(file, "%w", err)
	}
	return &unavailable{err: u.failf(file, "%w: %w", ErrUnavailable, err)}
}

// status returns the error for a status that is not 200, or 206 where ranged.
func (u *Upstream) status(file string, a *answer, ranged bool) error {
	code := a.StatusCode
	if code == http.StatusOK || ranged && code == http.StatusPartialContent {
		return nil
	}
	switch code {
	case http.StatusNotFound, http.StatusGone:
		return u.failf(file, "%w: status %d", ErrNotFound, code)
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		after := pace.ParseRetryAfter(a.Header.Get("Retry-After"), time.Now())
		return &unavailable{err: u.failf(file, "%w: status %d %s", ErrUnavailable, code, http.StatusText(code)), after: after}
	}
	want := http.StatusOK
	if ranged {
		want = http.StatusPartialContent
	}
	return u.refusef(file, "expected status %d, got %d %s", want, code, http.StatusText(code))
}

// cut returns the error for a body that ended early. want is 0 where it isn't known how long it is.
func (u *Upstream) cut(ctx context.Context, file string, err error, want, got int64) error {
	if ctx.Err() != nil {
		return u.failf(file, "%w", context.Cause(ctx))
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	err = explain.Network(err)
	if want == 0 {
		return &unavailable{err: u.failf(file, "%w: after %d bytes: %w", ErrUnavailable, got, err)}
	}
	return &unavailable{err: u.failf(file, "%w: expected %d bytes, got %d: %w", ErrUnavailable, want, got, err)}
}
