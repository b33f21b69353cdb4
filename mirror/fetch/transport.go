package fetch

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/internal/pace"
)

// readSize is the largest number of bytes to read at once.
const readSize = pace.Burst

// maxDial and maxHandshake bound what Config.Silence allows for a connection and its TLS.
const (
	maxDial      = 30 * time.Second
	maxHandshake = 20 * time.Second
)

// transport returns a transport for HTTP/1.1 only, so that each download has a connection of its own.
func (c Config) transport() *http.Transport {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	dialer := net.Dialer{Timeout: min(c.Silence, maxDial), KeepAlive: 15 * time.Second}
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            dialer.DialContext,
		Protocols:              &protocols,
		TLSClientConfig:        &tls.Config{RootCAs: c.Roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    min(c.Silence, maxHandshake),
		ResponseHeaderTimeout:  c.Silence,
		ExpectContinueTimeout:  2 * time.Second,
		IdleConnTimeout:        90 * time.Second,
		MaxConnsPerHost:        c.Connections,
		MaxIdleConnsPerHost:    c.Connections,
		MaxResponseHeaderBytes: 64 << 10,
		ReadBufferSize:         64 << 10,
		// Archives are compressed already; metadata are decompressed by unzipped, whose limit counts the output.
		DisableCompression: true,
	}
}

// maxRedirects bounds how many redirects are followed.
const maxRedirects = 5

// checkRedirect allows redirects of GET and HEAD within the upstream's origin and to listed origins. Requests with
// other methods follow no redirect: the redirect is the answer.
func (c *Client) checkRedirect(r *http.Request, via []*http.Request) error {
	if m := via[0].Method; m != http.MethodGet && m != http.MethodHead {
		return http.ErrUseLastResponse
	}
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

// maxAuthorities bounds a file of certificate authorities, in bytes.
const maxAuthorities = 4 << 20

// Authorities reads a file of certificates in PEM, for Config.Roots. For an empty path it returns nil: the system's
// authorities.
func Authorities(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	b, err := disk.ReadFile(path, maxAuthorities)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("%s: expected certificates in PEM, got none", path)
	}
	return pool, nil
}

// Request is one request to an upstream.
type Request struct {
	Method string // "": GET
	File   string // the path below the base URL, escaped
	Header http.Header
	Body   []byte        // not read any more once Send has failed or the body of the answer is closed
	Expect bool          // ask whether the body is wanted before it is sent
	Wait   time.Duration // until the answer begins, from the call of Send on; 0: Config.Silence after all is sent
}

// Send sends one request, and does not check the status. The answer's body is read no faster than Config.Rate, and
// fails with ErrStalled if it comes more slowly than Config.StallRate. The caller closes it.
func (u *Upstream) Send(ctx context.Context, q Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	r, err := http.NewRequestWithContext(ctx, q.Method, u.url(q.File), nil)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	if q.Header != nil {
		r.Header = q.Header
	}
	r.Header.Set("User-Agent", u.client.c.UserAgent)
	sent := &sentBody{}
	if len(q.Body) > 0 {
		sent.attach(r, q.Body)
		if q.Expect {
			r.Header.Set("Expect", "100-continue")
		}
	}
	if q.Wait > 0 {
		late := time.AfterFunc(q.Wait, func() { cancel(fmt.Errorf("%w: no answer began in %v", ErrStalled, q.Wait)) })
		defer late.Stop()
	}
	race, patience := raceOf(ctx), patienceOf(ctx)
	race.asked(q.File, q.Header)
	race.meter.Begin()
	patience.begin()
	answered := pace.Waiting(ctx, "asking "+u.String())
	resp, err := u.client.http.Do(r)
	answered()
	patience.came(0)
	race.meter.End(0)
	if err != nil {
		if cause := context.Cause(ctx); errors.Is(cause, ErrStalled) {
			err = cause
		}
		cancel(nil)
		sent.end()
		return nil, explain.Network(err) // without method and URL, which the caller adds
	}
	c := &u.client.c
	resp.Body = &body{
		ReadCloser: resp.Body, ctx: ctx, cancel: cancel, u: u, sent: sent, race: race, patience: patience,
		stall: pace.WatchStall(c.StallRate, c.StallWindow, func(got float64) {
			cancel(fmt.Errorf("%w: expected %d bytes per second over %v, got %.1f", ErrStalled, c.StallRate, c.StallWindow, got))
		}),
	}
	return resp, nil
}

// body is the body of an answer.
type body struct {
	io.ReadCloser
	ctx      context.Context
	cancel   context.CancelCauseFunc
	u        *Upstream
	sent     *sentBody
	race     *race
	patience *patience
	stall    *pace.Stall
}

// Read reads at most readSize bytes. The error of a body that was cut because it was slow is ErrStalled.
func (b *body) Read(p []byte) (int, error) {
	p = p[:min(len(p), readSize)]
	b.stall.Begin()
	b.race.meter.Begin()
	b.patience.begin()
	n, err := b.ReadCloser.Read(p)
	b.patience.came(n)
	b.race.meter.End(n)
	b.stall.End(n)
	b.u.received.Add(int64(n))
	if cause := context.Cause(b.ctx); err != nil && !errors.Is(err, io.EOF) && errors.Is(cause, ErrStalled) {
		err = cause
	}
	if waitErr := b.u.client.cap.Wait(b.ctx, n); waitErr != nil {
		return n, waitErr
	}
	return n, err
}

// Close ends the request, whether or not its answer was read to its end.
func (b *body) Close() error {
	b.stall.Stop()
	err := b.ReadCloser.Close()
	b.cancel(nil)
	b.sent.end()
	return err
}

// sentBody is the body of a request. After end the caller may use the bytes again, although net/http may still read
// the body for a while.
type sentBody struct {
	mu    sync.Mutex // held while it is read
	ended bool
}

func (s *sentBody) attach(r *http.Request, b []byte) {
	r.ContentLength = int64(len(b))
	r.GetBody = func() (io.ReadCloser, error) { return sentReader{bytes.NewReader(b), s}, nil }
	r.Body, _ = r.GetBody() // never fails
}

func (s *sentBody) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
}

type sentReader struct {
	io.Reader
	of *sentBody
}

// Read reads nothing more once the request has ended.
func (s sentReader) Read(p []byte) (int, error) {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	if s.of.ended {
		return 0, fs.ErrClosed
	}
	return s.Reader.Read(p)
}

// Close does nothing.
func (s sentReader) Close() error { return nil }

// get asks for a file, and does not check the status. The caller closes the answer.
func (u *Upstream) get(ctx context.Context, file string, header http.Header) (*http.Response, error) {
	resp, err := u.Send(ctx, Request{File: file, Header: header})
	if err != nil {
		return nil, u.unanswered(ctx, file, err)
	}
	return resp, nil
}

// unanswered returns the error for a request that got no answer.
func (u *Upstream) unanswered(ctx context.Context, file string, err error) error {
	if ctx.Err() != nil {
		return u.failf(file, "%w", context.Cause(ctx))
	}
	if errors.Is(err, ErrRefused) {
		return u.failf(file, "%w", err)
	}
	return &unavailable{err: u.failf(file, "%w: %w", ErrUnavailable, err)}
}

// status returns the error for any status but 200, or 206 if ranged.
func (u *Upstream) status(file string, a *http.Response, ranged bool) error {
	code := a.StatusCode
	if code == http.StatusOK || ranged && code == http.StatusPartialContent {
		return nil
	}
	switch code {
	case http.StatusNotFound, http.StatusGone:
		return u.failf(file, "%w: status %d", ErrNotFound, code)
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		err := u.failf(file, "%w: status %d %s", ErrUnavailable, code, http.StatusText(code))
		after := a.Header.Get("Retry-After")
		if after != "" {
			err = fmt.Errorf("%w, Retry-After %.40q", err, after)
		}
		return &unavailable{err: err, after: pace.ParseRetryAfter(after, time.Now())}
	}
	want := http.StatusOK
	if ranged {
		want = http.StatusPartialContent
	}
	return u.refusef(file, "expected status %d, got %d %s", want, code, http.StatusText(code))
}

// cut returns the error for a body that ended early. want is 0 if its length isn't known.
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
