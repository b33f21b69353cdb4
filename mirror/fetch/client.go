package fetch

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/openpowerquality/box-update-server/internal/pace"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
)

// Errors that a caller may branch on. The message names the upstream and the file, what was expected and what came.
var (
	// ErrRefused says that an upstream sent something that it must not send: wrong bytes, too many bytes, another
	// encoding, a redirect to an origin that is not listed. The upstream is set aside for it, unless the error is
	// also ErrDamaged.
	ErrRefused error = status.Refused

	// ErrDamaged is an ErrRefused: an archive, a block of it, or its block list is not the one that was signed.
	ErrDamaged = errors.New("damaged")

	// ErrUnavailable says that an upstream can't be reached, was cut, or asks to come back later.
	ErrUnavailable error = status.Unavailable

	// ErrStalled says that an upstream was slower than the stall limit. It is always wrapped with ErrUnavailable.
	ErrStalled = errors.New("too slow")

	// ErrNotFound says that an upstream does not have the file.
	ErrNotFound error = status.NotFound
)

// Config says which upstreams to ask, and how. Only Upstreams is required.
type Config struct {
	// Upstreams are base URLs, http or https, with an optional path. They are asked in this order.
	Upstreams []string

	// Redirects are the origins, scheme://host[:port], to which an upstream may redirect besides its own.
	Redirects []string

	Roots     *x509.CertPool // certificate authorities; nil: those of the system
	UserAgent string         // "": box-update-server

	Transport http.RoundTripper // nil: HTTP/1.1, with Roots and Connections

	Rate        int64         // bytes per second of all answers together; 0: no cap
	Connections int           // at once to each upstream; 0: 8
	StallRate   int64         // bytes per second below which an answer is cut; 0: 256
	StallWindow time.Duration // over which StallRate is averaged; 0: 30 s
	Silence     time.Duration // how long an upstream may take to begin an answer; 0: 30 s; less where several share Patience

	// Race is how long a call stays with one upstream before it tries another one at the same time; 0: 30 s;
	// negative: never.
	Race time.Duration

	Backoff       time.Duration // the first pause after a failure; doubles each time; 0: 1 s
	MaxBackoff    time.Duration // the longest pause; 0: 1 min
	MaxRetryAfter time.Duration // the longest pause that an upstream may ask for; 0: 1 h
	SetAside      time.Duration // how long an upstream that sent something wrong is not asked; 0: 10 min

	// Patience is how long a call waits in all without getting anything before it gives up; 0: 2 min; negative: each
	// upstream is asked once.
	Patience time.Duration

	// Jitter returns numbers from 0 to below 1 that spread pauses; nil: at random.
	Jitter func() float64

	// Progress, if not nil, is told how many bytes of an archive are there; fewer than before if a part has to come
	// again. It is called often, and for several archives concurrently.
	Progress func(rel trust.Release, done int64)

	// Refused, if not nil, is told why something that an upstream sent was refused. It must not block.
	Refused func(err error)

	Logger *slog.Logger // nil: nothing is logged
}

// maxOverdue and minSilence bound how long to wait for each upstream if several share Patience.
const (
	maxOverdue = 10 * time.Second
	minSilence = 10 * time.Second
)

// Client asks upstreams. It is safe for concurrent use; the limits hold for all its calls together.
type Client struct {
	c         Config
	upstreams []*Upstream
	origins   []string
	http      *http.Client
	cap       *pace.Cap
	overdue   time.Duration // the silence after which another upstream is asked too, see Newest
	buffers   sync.Pool     // of *[]byte: blocks in flight
	raced     atomic.Int64  // bytes that trials took
}

// New returns a client, which the caller must close. It sends no request.
func New(c Config) (*Client, error) {
	c = c.withDefaults()
	if len(c.Upstreams) == 0 {
		return nil, errors.New("fetch: no upstream")
	}
	client := &Client{c: c, cap: pace.NewCap(c.Rate)}
	for _, s := range c.Redirects {
		o, err := parseOrigin(s)
		if err != nil {
			return nil, fmt.Errorf("fetch: redirects: %w", err)
		}
		client.origins = append(client.origins, o)
	}
	for _, s := range c.Upstreams {
		base, err := parseBase(s)
		if err != nil {
			return nil, fmt.Errorf("fetch: upstreams: %w", err)
		}
		client.upstreams = append(client.upstreams, &Upstream{client: client, base: base})
	}
	// Even if all upstreams but the last are silent, each is asked before patience ends.
	client.overdue = maxOverdue
	if n := time.Duration(len(c.Upstreams)); c.Patience > 0 && n > 1 {
		client.overdue = min(client.overdue, c.Patience/(n+1))
		c.Silence = min(c.Silence, max(c.Patience/(n+1), client.overdue, minSilence))
		client.c.Silence = c.Silence
	}
	if c.Transport == nil {
		c.Transport = c.transport()
	}
	client.http = &http.Client{Transport: c.Transport, CheckRedirect: client.checkRedirect}
	return client, nil
}

func (c Config) withDefaults() Config {
	orDefault(&c.UserAgent, "box-update-server")
	orDefault(&c.Connections, 8)
	orDefault(&c.StallRate, 256)
	orDefault(&c.StallWindow, 30*time.Second)
	orDefault(&c.Silence, 30*time.Second)
	orDefault(&c.Race, 30*time.Second)
	orDefault(&c.Backoff, time.Second)
	orDefault(&c.MaxBackoff, time.Minute)
	orDefault(&c.MaxRetryAfter, time.Hour)
	orDefault(&c.SetAside, 10*time.Minute)
	orDefault(&c.Patience, 2*time.Minute)
	orDefault(&c.Logger, slog.New(slog.DiscardHandler))
	if c.Jitter == nil {
		c.Jitter = rand.Float64
	}
	if c.Progress == nil {
		c.Progress = func(trust.Release, int64) {}
	}
	return c
}

// backoff returns the pauses after failures of an upstream.
func (c *Config) backoff() pace.Backoff { return pace.Backoff{First: c.Backoff, Most: c.MaxBackoff} }

// orDefault replaces a zero value by the default.
func orDefault[T comparable](v *T, byDefault T) {
	var zero T
	if *v == zero {
		*v = byDefault
	}
}

// Upstreams returns the upstreams in the order of the configuration.
func (c *Client) Upstreams() []*Upstream { return slices.Clone(c.upstreams) }

// First returns the upstream that would be asked first, among those that are not set aside, pausing, failing, behind,
// or known for damaged archives. It returns nil if there is none.
func (c *Client) First() (first *Upstream) {
	for _, u := range c.upstreams {
		s := u.State()
		if s.Until.IsZero() && !s.Failing && !s.Behind && s.Damaged.IsZero() && (first == nil || s.before(first.State(), 0)) {
			first = u
		}
	}
	return first
}

// Close closes idle connections. It does not end running calls; their contexts do.
func (c *Client) Close() { c.http.CloseIdleConnections() }
