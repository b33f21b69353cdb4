package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/pace"
	"github.com/openpowerquality/box-update-server/internal/settings"
)

const (
	// acmeTimeout bounds one request to an authority.
	acmeTimeout = 30 * time.Second

	// acmeRetry is the pause before the next try if a certificate could not be obtained. autocert returns the same error
	// for a minute.
	acmeRetry = 65 * time.Second

	// acmeCheck is the time between two checks of certificates that are in place.
	acmeCheck = time.Hour
)

// acmeCertificates are obtained from an authority by ACME (RFC 8555), kept in the data directory, and renewed a month before
// they expire. The authority checks that we answer for a name on port 443 (RFC 8737), or else on port 80.
type acmeCertificates struct {
	manager *autocert.Manager
	domains []string // the first is for clients that name none
	logger  *slog.Logger

	mu        sync.Mutex
	standings map[string]standing // by domain
}

func (p *Program) openACME(s settings.Server, logger *slog.Logger) (*acmeCertificates, error) {
	roots, err := certificates("acme_ca_file", s.ACMECAFile)
	if err != nil {
		return nil, err
	}
	if err := (disk.FS{}).MkdirAll(s.ACMEDir(), 0o700); err != nil {
		return nil, fmt.Errorf("data_dir: %w", err)
	}
	a := &acmeCertificates{domains: s.ACMEDomains, logger: logger, standings: map[string]standing{}}
	a.manager = &autocert.Manager{
		Prompt:     autocert.AcceptTOS,
		Cache:      autocert.DirCache(s.ACMEDir()),
		HostPolicy: knownHosts(s.ACMEDomains),
		Email:      s.ACMEEmail,
		Client: &acme.Client{
			DirectoryURL: s.ACMEDirectory,
			UserAgent:    "box-update-server/" + p.Version,
			HTTPClient: &http.Client{Timeout: acmeTimeout, Transport: &http.Transport{
				Proxy:           http.ProxyFromEnvironment,
				TLSClientConfig: &tls.Config{RootCAs: roots},
			}},
		},
	}
	for _, d := range a.domains {
		a.standings[d] = standing{subject: d, problem: "not obtained yet"}
	}
	return a, nil
}

// knownHosts accepts these domains, with or without a port.
func knownHosts(domains []string) autocert.HostPolicy {
	known := autocert.HostWhitelist(domains...)
	return func(ctx context.Context, host string) error {
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		return known(ctx, host)
	}
}

var errNotObtained = errors.New("no certificate was obtained yet")

// Certificate returns the certificate of the domain that a client names, and obtains it if there is none. A client that
// names no domain, such as a health check, does not wait for that.
func (a *acmeCertificates) Certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	h := *hello
	if h.ServerName == "" {
		h.ServerName = a.domains[0]
		if !a.obtained(h.ServerName) {
			return nil, errNotObtained
		}
	}
	domain := strings.TrimSuffix(strings.ToLower(h.ServerName), ".")
	if !slices.Contains(a.domains, domain) {
		return nil, fmt.Errorf("%.300q is not in acme_domains", h.ServerName)
	}
	if slices.Contains(h.SupportedVersions, tls.VersionTLS13) {
		// Such a client accepts ECDSA, but autocert only looks at cipher suites of TLS 1.2.
		h.CipherSuites = append(slices.Clone(h.CipherSuites), tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)
	}
	c, err := a.manager.GetCertificate(&h)
	if slices.Contains(h.SupportedProtos, acme.ALPNProto) {
		return c, err // for the authority's own check
	}
	a.setStanding(domain, c, err)
	return c, err
}

// setStanding notes the state of a certificate, and logs changes.
func (a *acmeCertificates) setStanding(domain string, c *tls.Certificate, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	was := a.standings[domain]
	is := standing{subject: domain, begins: was.begins, expires: was.expires}
	switch {
	case err != nil:
		is.problem = "no certificate: " + oneLine(err)
		if is.problem != was.problem {
			a.logger.Error("certificate", "domain", domain, "err", err)
		}
	case c.Leaf != nil:
		is.begins, is.expires = c.Leaf.NotBefore, c.Leaf.NotAfter
		if !is.expires.Equal(was.expires) {
			a.logger.Info("certificate in place", "domain", domain, "expires", is.expires.UTC())
		}
	}
	a.standings[domain] = is
}

func (a *acmeCertificates) obtained(domain string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.standings[domain].begins.IsZero()
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// Standing returns the state of the certificate of each domain.
func (a *acmeCertificates) Standing(time.Time) (out []standing) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, d := range a.domains {
		out = append(out, a.standings[d])
	}
	return out
}

// renew obtains missing certificates before a client needs them, and renews them, until ctx ends.
func (a *acmeCertificates) renew(ctx context.Context) {
	for {
		wait := acmeCheck
		for _, d := range a.domains {
			_, err := a.Certificate(&tls.ClientHelloInfo{ServerName: d, SupportedVersions: []uint16{tls.VersionTLS13}})
			if err != nil {
				wait = acmeRetry
			}
		}
		if pace.Sleep(ctx, wait) != nil {
			return
		}
	}
}
