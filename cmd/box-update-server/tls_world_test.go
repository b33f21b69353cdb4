package main_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// An authority issues certificates that its clients trust.
type authority struct {
	t           *testing.T
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
	roots       *x509.CertPool
	serial      int64 // of the last that it issued
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, key: newECKey(t), roots: x509.NewCertPool()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	a.certificate = a.sign(template, template, a.key)
	a.roots.AddCert(a.certificate)
	return a
}

func newECKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *authority) sign(template, parent *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

// An issued certificate and its key, in PEM.
type issued struct {
	serial           int64
	certificate, key []byte
}

// issue issues a certificate for 127.0.0.1 and localhost that is valid from an hour ago until left has passed.
func (a *authority) issue(left time.Duration) issued {
	a.t.Helper()
	a.serial++
	key := newECKey(a.t)
	c := a.sign(&x509.Certificate{
		SerialNumber: big.NewInt(a.serial),
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(left),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}, a.certificate, key)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return issued{a.serial, inPEM("CERTIFICATE", c.Raw), inPEM("PRIVATE KEY", der)}
}

func inPEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// A pairDir is a directory with a certificate and its key.
type pairDir string

func (d pairDir) certificate() string { return filepath.Join(string(d), "fullchain.pem") }
func (d pairDir) key() string         { return filepath.Join(string(d), "privkey.pem") }

// put puts a pair there, one file after the other.
func (d pairDir) put(t *testing.T, i issued) pairDir {
	t.Helper()
	write(t, string(d), "privkey.pem", i.key)
	write(t, string(d), "fullchain.pem", i.certificate)
	return d
}

// clientTLS returns a client that trusts the authority. Each request takes a new connection where fresh is
// set.
func (a *authority) clientTLS(fresh bool) *http.Client {
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: a.roots},
		DisableKeepAlives: fresh,
		ForceAttemptHTTP2: true,
	}
	a.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Transport: transport, Timeout: patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// withTLS starts a server that listens with TLS too, or only so, and returns it with its URL.
func withTLS(t *testing.T, d pairDir, settings map[string]any) (s *server, secure string) {
	t.Helper()
	settings["tls_listen"] = "127.0.0.1:0"
	settings["tls_certificate"], settings["tls_key"] = d.certificate(), d.key()
	s = launch{settings: settings}.start(t)
	return s, "https://" + s.secureAddr(t)
}

// secureAddr returns where a server listens with TLS.
func (s *server) secureAddr(t *testing.T) string {
	t.Helper()
	return addrIn(s.awaitLog(t, "listening with TLS"))
}

// addrIn returns the address in a line of the log.
func addrIn(line string) string {
	for word := range strings.FieldsSeq(line) {
		if addr, ok := strings.CutPrefix(word, "addr="); ok {
			return addr
		}
	}
	return ""
}
