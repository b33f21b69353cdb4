package publish

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/update"
)

// Config says where a repository is and how to reach it. Only URL is required.
type Config struct {
	// URL is where the repository is served: http or https, a host, and a path where a proxy puts one
	// before the routes. The proxies of the environment are used (HTTPS_PROXY, NO_PROXY).
	URL string

	Roots     *x509.CertPool // certificate authorities; nil: those of the system
	UserAgent string         // for the server's log

	// Patience is how long a publish continues without progress, and how long a commit may take; 0: 5 minutes.
	Patience time.Duration

	// Progress, if not nil, is called for each archive that is sent, at its beginning and after each block. Calls don't
	// overlap.
	Progress func(Progress)

	// Waiting, if not nil, is called before each pause after a failure. Calls may overlap.
	Waiting func(err error, pause time.Duration)
}

// Progress is how much of an archive the origin has.
type Progress struct {
	Name        update.Name
	Done, Total int64 // bytes
}

const defaultPatience = 5 * time.Minute

// When a request counts as stalled.
const (
	stallBytes = 64 << 10         // bytes of an answer that must come
	stallTime  = 30 * time.Second // in this time
	answerTime = 2 * time.Minute  // until the answer begins, without the time for the body
	leastRate  = 4000             // bytes per second of a body, as the origin demands
)

// Remote is the repository at a URL. It is safe for concurrent use.
type Remote struct {
	c        Config
	client   *fetch.Client
	server   *fetch.Upstream
	link     *link       // to the origin
	answered atomic.Bool // the server has answered, so that failures may be temporary
}

// New returns the repository at a URL. It sends nothing. The caller closes it.
func New(c Config) (*Remote, error) { return newRemote(nil, c) }

// newRemote is New with a transport; nil is the one of package fetch.
func newRemote(transport http.RoundTripper, c Config) (*Remote, error) {
	if u, err := url.Parse(c.URL); err == nil && u.User != nil {
		return nil, errors.New("repository: the URL has a password: leave it out, signatures are the credential")
	}
	if err := fetch.CheckURL(c.URL); err != nil {
		return nil, fmt.Errorf("repository: %w", err)
	}
	if c.Patience == 0 {
		c.Patience = defaultPatience
	}
	client, err := fetch.New(fetch.Config{
		Upstreams: []string{c.URL}, Transport: transport, Roots: c.Roots, UserAgent: c.UserAgent, Connections: parallel + 1,
		StallRate: stallBytes / int64(stallTime/time.Second), StallWindow: stallTime,
		Silence: max(waitFor(update.BlockSize), c.Patience), // each request says how long it waits
	})
	if err != nil {
		return nil, fmt.Errorf("repository: %w", err)
	}
	return &Remote{c: c, client: client, server: client.Upstreams()[0], link: newLink()}, nil
}

// waitFor returns how long to wait for the answer to a body of that length.
func waitFor(length int) time.Duration {
	return answerTime + time.Duration(length)*time.Second/leastRate
}

// URL returns where the repository is, with a slash at its end.
func (r *Remote) URL() string { return r.server.String() + "/" }

// at returns the URL of a path.
func (r *Remote) at(path ...string) string { return r.URL() + strings.Join(path, "/") }

// Close closes idle connections.
func (r *Remote) Close() error {
	r.client.Close()
	return nil
}

func (r *Remote) progress(p Progress) {
	if r.c.Progress != nil {
		r.c.Progress(p)
	}
}
