package settings

import (
	"errors"
	"net"
	"time"
)

// TLS is the settings of TLS.
type TLS struct {
	TLSListen      string // host:port; "": no TLS
	TLSCertificate string // file
	TLSKey         string // file
	TLSRedirect    bool
	HSTS           time.Duration // 0: browsers are told nothing
	ACMEDomains    []string      // for which certificates are obtained, instead of the two files
	ACMEDirectory  string        // URL (RFC 8555, section 7.1.1)
	ACMECAFile     string        // PEM; "": the authorities of the system
	ACMEEmail      string        // "": the authority may write to nobody
}

func (c *TLS) settings() []Setting {
	const letsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"
	return []Setting{
		{"tls_listen", "Listen with TLS on `HOST:PORT`", address(&c.TLSListen)},
		{"tls_certificate", "`FILE` of the certificate, which is read again when it changes", path(&c.TLSCertificate, "a certificate file")},
		{"tls_key", "`FILE` of the private key of the certificate", path(&c.TLSKey, "a private key file")},
		{"tls_redirect", "Redirect HTTP to HTTPS", truth(&c.TLSRedirect)},
		{"hsts", "Tell browsers to use only TLS for this `DURATION`", duration(&c.HSTS, 0, forever)},
		{"acme_domains", "Obtain a certificate for this `DOMAIN`", list(&c.ACMEDomains, "a domain name", domain)},
		{"acme_directory", "Directory `URL` of the authority that certificates are obtained from",
			keep(&c.ACMEDirectory, "an https:// URL", fromText(httpsURL), nil, letsEncrypt).shownWith(&c.ACMEDomains)},
		{"acme_ca_file", "`FILE` of the authorities to trust at that URL", path(&c.ACMECAFile, "a file of certificates")},
		{"acme_email", "`ADDRESS` that the authority may write to", text(&c.ACMEEmail, "an address")},
	}
}

// check returns an error for each contradiction between the settings of TLS.
func (c *TLS) check() (problems []error) {
	bad := func(text string) { problems = append(problems, errors.New(text)) }
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
	return problems
}

// TLSPort returns the port of TLS as it stands in a URL after the host: empty for the usual one.
func (c *TLS) TLSPort() string {
	_, port, err := net.SplitHostPort(c.TLSListen)
	if err != nil || port == "443" {
		return ""
	}
	return ":" + port
}
