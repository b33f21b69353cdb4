package main_test

import (
	"encoding/pem"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"testing"
)

// behindTLS returns a URL of the server with TLS, and the file of the authority that nobody knows of.
func behindTLS(t *testing.T, s *server) (base, authority string) {
	t.Helper()
	target, err := url.Parse(s.base)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewTLSServer(httputil.NewSingleHostReverseProxy(target))
	t.Cleanup(proxy.Close)
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: proxy.Certificate().Raw})
	return proxy.URL, write(t, t.TempDir(), "ca.pem", certificate)
}

// An origin whose certificate comes from an authority of one's own is published to with SSL_CERT_FILE.
func TestPublishToAnAuthorityOfOnesOwn(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	s, p := w.serve(), w.owner()
	base, authority := behindTLS(t, s)
	path := packRandom(t, t.TempDir(), 1600000000, 5<<20)
	p.refused("publish", []string{path, base}, "certificate")
	cmd := p.boxsign("publish", path, base)
	cmd.Env = append(cmd.Env, "SSL_CERT_FILE="+authority)
	says(t, succeed(t, cmd), "state: published\n")
	p.lists(s.base, filepath.Base(path))
}
