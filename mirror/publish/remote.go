package publish

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/openpowerquality/box-update-server/update"
)

// Config says where a repository is and how to reach it. Only URL is required.
type Config struct {
	// URL is where the repository is served: http or https, a host, and a path where a proxy puts one
	// before the routes. The proxies of the environment are used (HTTPS_PROXY, NO_PROXY).
	URL string

	// CA holds certificates in PEM that a server may have besides those that the system trusts.
	CA []byte

	// UserAgent is what the server's log says of the client.
	UserAgent string

	// Patience is for how long a publish goes on without a step forward, and how long a commit may
	// take; 0: 5 minutes.
	Patience time.Duration

	// Progress, where not nil, is called for each archive that is sent, when it begins and after each
	// block. Calls don't overlap.
	Progress func(Progress)

	// Waiting, where not nil, is called before each pause after a failure. Calls may overlap.
	Waiting func(err error, pause time.Duration)
}

// Progress is how much of an archive the origin has.
type Progress struct {
	Name        update.Name
	Done, Total int64 // bytes
}

const defaultPatience = 5 * time.Minute

// Remote is the repository at a URL. Its methods are safe for concurrent use.
type Remote struct {
	c        Config
	base     *url.URL // its path ends with a slash
	client   *http.Client
	link     *link       // to the origin, as uploads find it
	answered atomic.Bool // the server has answered: what fails now may work again
}

// New returns the repository at a URL. Nothing is sent yet. The caller closes it.
func New(c Config) (*Remote, error) {
	base, err := parseURL(c.URL)
	if err != nil {
		return nil, err
	}
	roots, err := certificates(c.CA)
	if err != nil {
		return nil, err
	}
	if c.Patience == 0 {
		c.Patience = defaultPatience
	}
	r := &Remote{c: c, base: base, link: newLink()}
	r.client = &http.Client{Transport: transport(roots), CheckRedirect: sameServer}
	return r, nil
}

// parseURL refuses whatever is not http or https, and what can't be the beginning of a route.
func parseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, errors.New("repository: not a URL: expected http://host/ or https://host/") // the error quotes what may be a password
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Opaque != "":
		return nil, fmt.Errorf("repository %q: expected http://host/ or https://host/", s)
	case u.User != nil:
		return nil, errors.New("repository: a URL with a password: signatures are what lets you publish")
	case u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
		return nil, fmt.Errorf("repository %q: expected a URL that ends with its path", s)
	}
	// A %2F is no slash: the path stays as it is spelled.
	for strings.HasSuffix(u.EscapedPath(), "/") {
		u.Path, u.RawPath = strings.TrimSuffix(u.Path, "/"), strings.TrimSuffix(u.RawPath, "/")
	}
	return u.JoinPath("/"), nil
}

func certificates(pem []byte) (*x509.CertPool, error) {
	if len(pem) == 0 {
		return nil, nil // the system's
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("certificates of the system: %w", err)
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("certificates: no PEM block of a certificate")
	}
	return pool, nil
}

// transport speaks HTTP/1.1: parallel blocks go through connections of their own.
func transport(roots *x509.CertPool) *http.Transport {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	dialer := net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            dialer.DialContext,
		Protocols:              &protocols,
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    10 * time.Second,
		ExpectContinueTimeout:  2 * time.Second,
		IdleConnTimeout:        30 * time.Second,
		MaxIdleConnsPerHost:    parallel + 1,
		MaxResponseHeaderBytes: 64 << 10,
		WriteBufferSize:        128 << 10,
		DisableCompression:     true, // digests are of what is sent, and lengths are known
	}
}

const maxRedirects = 3

// sameServer follows a redirect of what is only read, to the same scheme and host.
func sameServer(next *http.Request, via []*http.Request) error {
	first := via[0]
	if first.Method != http.MethodGet || len(via) > maxRedirects {
		return http.ErrUseLastResponse
	}
	if next.URL.Scheme != first.URL.Scheme || next.URL.Host != first.URL.Host {
		return http.ErrUseLastResponse
	}
	return nil
}

// URL returns where the repository is, with a slash at its end.
func (r *Remote) URL() string { return r.base.String() }

// Close closes the connections that are kept open between requests.
func (r *Remote) Close() error {
	r.client.CloseIdleConnections()
	return nil
}

func (r *Remote) progress(p Progress) {
	if r.c.Progress != nil {
		r.c.Progress(p)
	}
}

// readUpTo reads to the end, and refuses more than limit bytes with tooLong.
func readUpTo(src io.Reader, limit int64, tooLong error) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(src, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) > limit {
		return nil, fmt.Errorf("%w: expected at most %d bytes, got more", tooLong, limit)
	}
	return raw, nil
}
