package server

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/openpowerquality/box-update-server/internal/settings"
	"github.com/openpowerquality/box-update-server/router"
	"github.com/openpowerquality/box-update-server/status"
)

// credentials are the certificates of the server. Their methods are called concurrently.
type credentials interface {
	// Certificate returns the certificate for a client. It is called for each connection.
	Certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error)

	// Standing returns the state of each certificate.
	Standing(at time.Time) []standing
}

// A standing is the state of one certificate.
type standing struct {
	subject string    // the domain, or the file
	begins  time.Time // zero: there is none
	expires time.Time
	problem string // why there is none, or no newer one, on one line; "" for none
}

// openCredentials returns the certificates that the settings name, nil if there is no TLS.
func (p *Program) openCredentials(s settings.Server, logger *slog.Logger) (credentials, error) {
	switch {
	case s.TLSListen == "":
		return nil, nil
	case len(s.ACMEDomains) > 0:
		return p.openACME(s, logger)
	}
	return openCertificateFiles(s.TLSCertificate, s.TLSKey, logger, p.Now)
}

// serverTLS returns the configuration of a server with these certificates.
func serverTLS(c credentials) *tls.Config {
	out := &tls.Config{GetCertificate: c.Certificate, NextProtos: []string{"h2", "http/1.1"}}
	if _, ok := c.(*acmeCertificates); ok {
		out.NextProtos = append(out.NextProtos, acme.ALPNProto) // RFC 8737
	}
	return out
}

// warnOfExpiry returns how long before its expiry a certificate should have been replaced: the last quarter of its
// life, at most two weeks.
func (s standing) warnOfExpiry() time.Duration {
	return min(14*24*time.Hour, s.expires.Sub(s.begins)/4)
}

// component describes the certificates. It is in order as long as there is a valid one for each subject.
func component(all []standing, at time.Time) status.Component {
	c := status.Component{Name: "certificate"}
	for _, s := range all {
		warn := func(urgent bool, text string) {
			c.Warnings = append(c.Warnings, status.Warning{Subject: s.subject, Urgent: urgent, Text: text})
		}
		left := s.expires.Sub(at)
		switch {
		case s.begins.IsZero() && s.problem == "":
			warn(true, "there is none yet")
		case s.begins.IsZero():
		case left <= 0:
			warn(true, "expired at "+s.expires.UTC().Format(time.RFC3339))
		case left < s.warnOfExpiry():
			warn(false, "expires at "+s.expires.UTC().Format(time.RFC3339))
		}
		if s.problem != "" {
			warn(s.begins.IsZero(), s.problem)
		}
	}
	return c
}

// plainHandler returns the handler of requests without TLS, nil if the routes answer them.
func plainHandler(s settings.Server, c credentials) func(http.Handler) http.Handler {
	a, obtains := c.(*acmeCertificates)
	if !obtains && !s.TLSRedirect {
		return nil
	}
	return func(routes http.Handler) http.Handler {
		if s.TLSRedirect {
			routes = redirectToTLS(s.TLSPort())
		}
		if obtains {
			return a.manager.HTTPHandler(routes)
		}
		return routes
	}
}

// redirectToTLS redirects clients to the same URL with TLS. port is empty or begins with a colon.
func redirectToTLS(port string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(r.Host); err == nil {
			host = h
		}
		if host == "" || r.URL.Path == "" || r.URL.Path[0] != '/' {
			http.Error(w, "Use TLS.", http.StatusBadRequest)
			return
		}
		status := http.StatusPermanentRedirect
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			status = http.StatusMovedPermanently // old clients know only this one
		}
		if net.ParseIP(host) != nil && host[0] != '[' && net.ParseIP(host).To4() == nil {
			host = "[" + host + "]"
		}
		w.Header().Set("Location", "https://"+host+port+r.URL.RequestURI())
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
	})
}

// listeners are the listeners of the server. Each may be nil.
type listeners struct{ plain, secure net.Listener }

// listen listens at the addresses in the settings.
func listen(s *settings.Server) (l listeners, err error) {
	if s.Plain() {
		if l.plain, err = listenOn(s.Address(), "--listen"); err != nil {
			return listeners{}, err
		}
	}
	if s.TLSListen == "" {
		return l, nil
	}
	if l.secure, err = listenOn(s.TLSListen, "--tls-listen"); err != nil && l.plain != nil {
		err = errors.Join(err, l.plain.Close())
	}
	return l, err
}

func listenOn(address, flag string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, status.WithHint(err, "is another server running? choose another port or "+flag+" host:port")
	case errors.Is(err, syscall.EACCES):
		return nil, status.WithHint(err, "a port below 1024 needs the capability CAP_NET_BIND_SERVICE")
	}
	return l, err
}

// serve serves on all listeners. The channel receives the error of each that ends.
func (l listeners) serve(srv *router.Server, c credentials) <-chan error {
	served := make(chan error, 2)
	if l.plain != nil {
		go func() { served <- srv.Serve(l.plain) }()
	}
	if l.secure != nil {
		go func() { served <- srv.ServeTLS(l.secure, serverTLS(c)) }()
	}
	return served
}

// asked returns the address at which to ask the server whether it is alive, and whether to use TLS.
func (l listeners) asked() (address net.Addr, secure bool) {
	if l.plain != nil {
		return l.plain.Addr(), false
	}
	return l.secure.Addr(), true
}

// log logs where the server listens.
func (l listeners) log(s settings.Server, version string, logger *slog.Logger) {
	if l.plain != nil {
		logger.Info("listening", "addr", l.plain.Addr().String(), "updates_dir", s.UpdatesDir, "data_dir", s.DataDir, "version", version)
	}
	if l.secure != nil {
		logger.Info("listening with TLS", "addr", l.secure.Addr().String(), "version", version)
	}
}

// obtain obtains and renews certificates until ctx ends, if they come from an authority.
func obtain(ctx context.Context, c credentials) {
	if a, ok := c.(*acmeCertificates); ok {
		go a.renew(ctx)
	}
}
