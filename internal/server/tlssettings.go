package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/acme/autocert"
)

// securing are the settings of TLS.
type securing struct {
	TLSListen      string        // host:port; "": no TLS
	TLSCertificate string        // file of the certificate, and of those between it and the authority
	TLSKey         string        // file of its private key
	TLSRedirect    bool          // who comes without TLS is sent to TLS
	HSTS           time.Duration // for how long browsers are told to come with TLS only; 0: they aren't
	ACMEDomains    []string      // names that certificates are obtained for, instead of the files
	ACMEDirectory  string        // URL of the authority's directory (RFC 8555, section 7.1.1)
	ACMECAFile     string        // certificate authorities, PEM, of that URL, instead of those of the system
	ACMEEmail      string        // whom the authority may write to; "": nobody
}

func defaultSecuring() securing { return securing{ACMEDirectory: autocert.DefaultACMEDirectory} }

func (c *securing) fields() map[string]field {
	return map[string]field{
		"tls_listen":      {`"host:port"`, func(b json.RawMessage) error { return setString(&c.TLSListen, b) }},
		"tls_certificate": {"the path of a certificate file", func(b json.RawMessage) error { return setString(&c.TLSCertificate, b) }},
		"tls_key":         {"the path of a private key file", func(b json.RawMessage) error { return setString(&c.TLSKey, b) }},
		"tls_redirect":    {"true or false", func(b json.RawMessage) error { return json.Unmarshal(b, &c.TLSRedirect) }},
		"hsts":            {`a duration such as "8760h"`, func(b json.RawMessage) error { return setDuration(&c.HSTS, b) }},
		"acme_domains":    {"a domain name, or a list of them", func(b json.RawMessage) error { return setDomains(&c.ACMEDomains, b) }},
		"acme_directory":  {"an https:// URL", func(b json.RawMessage) error { return setDirectory(&c.ACMEDirectory, b) }},
		"acme_ca_file":    {"the path of a file of certificates", func(b json.RawMessage) error { return setString(&c.ACMECAFile, b) }},
		"acme_email":      {"an address", func(b json.RawMessage) error { return setString(&c.ACMEEmail, b) }},
	}
}

// setDomains takes one domain name or a list of them, in lower case: those that an authority can check over
// HTTP or TLS.
func setDomains(p *[]string, b json.RawMessage) error {
	var names []string
	if err := json.Unmarshal(b, &names); err != nil {
		var one string
		if err := setString(&one, b); err != nil {
			return err
		}
		names = []string{one}
	}
	for _, name := range names {
		if !isDomain(name) {
			return fmt.Errorf("%q is no domain name", name)
		}
	}
	*p = names
	return nil
}

// isDomain reports whether a text is the name of a host: at least two labels, in lower case and ASCII.
func isDomain(text string) bool {
	labels := strings.Split(text, ".")
	for _, label := range labels {
		rest := strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-")
		if label == "" || len(label) > 63 || rest != "" || strings.Trim(label, "-") != label {
			return false
		}
	}
	return len(labels) > 1 && len(text) <= 253
}

func setDirectory(p *string, b json.RawMessage) error {
	var text string
	if err := setString(&text, b); err != nil {
		return err
	}
	u, err := url.Parse(text)
	if err != nil {
		return err
	}
	if u.Scheme != "https" || u.Host == "" {
		return errors.New("not https://")
	}
	*p = text
	return nil
}

// check says what can't work.
func (c *securing) check() (problems []error) {
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if err := checkAddress(c.TLSListen); c.TLSListen != "" && err != nil {
		bad("tls_listen %q: expected host:port: %w", c.TLSListen, err)
	}
	files := c.TLSCertificate != "" || c.TLSKey != ""
	switch {
	case files && len(c.ACMEDomains) > 0:
		bad("tls_certificate and acme_domains exclude each other")
	case files && (c.TLSCertificate == "" || c.TLSKey == ""):
		bad("tls_certificate and tls_key belong together: one is not set")
	case c.TLSListen != "" && !files && len(c.ACMEDomains) == 0:
		bad("tls_listen needs a certificate: set tls_certificate and tls_key, or acme_domains")
	case c.TLSListen == "" && (files || len(c.ACMEDomains) > 0 || c.TLSRedirect || c.HSTS != 0):
		bad("tls_listen is not set: without it there is no TLS")
	}
	if c.HSTS < 0 {
		bad("hsts must not be negative")
	}
	return problems
}

// checkSecure says what of TLS can't work for a server.
func (s *settings) checkSecure() (problems []error) {
	if s.TLSRedirect && !s.plain() {
		problems = append(problems, errors.New("tls_redirect: neither port nor listen is set, so nobody comes without TLS"))
	}
	if len(s.ACMEDomains) > 0 && s.DataDir == "" {
		problems = append(problems, errors.New("acme_domains: certificates are kept in data_dir, which is not set"))
	}
	return problems
}

// plain reports whether the server listens without TLS.
func (s *settings) plain() bool { return s.Listen != "" || s.Port != 0 }

// asked returns where to ask the server how it is, and whether that is with TLS.
func (s *settings) asked() (address string, secure bool) {
	if !s.plain() || s.TLSRedirect {
		return s.TLSListen, true
	}
	return s.address(), false
}

// acmeDir is where ACME accounts and certificates are kept.
func (s *settings) acmeDir() string { return filepath.Join(s.DataDir, "acme") }

// tlsPort returns the port of TLS as it stands in a URL behind the host: empty for the usual one.
func (c *securing) tlsPort() string {
	_, port, err := net.SplitHostPort(c.TLSListen)
	if err != nil || port == "443" {
		return ""
	}
	return ":" + port
}

// shown returns the settings of TLS as the JSON object that they can be given as.
func (c *securing) shown() map[string]any {
	m := map[string]any{}
	for key, text := range map[string]string{
		"tls_listen": c.TLSListen, "tls_certificate": c.TLSCertificate, "tls_key": c.TLSKey,
		"acme_ca_file": c.ACMECAFile, "acme_email": c.ACMEEmail,
	} {
		if text != "" {
			m[key] = text
		}
	}
	if len(c.ACMEDomains) > 0 {
		m["acme_domains"], m["acme_directory"] = c.ACMEDomains, c.ACMEDirectory
	}
	if c.TLSRedirect {
		m["tls_redirect"] = true
	}
	if c.HSTS != 0 {
		m["hsts"] = c.HSTS.String()
	}
	return m
}
