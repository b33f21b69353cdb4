package fetch

import (
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/update"
)

func TestOwnCertificateAuthority(t *testing.T) {
	w := newWorld(t, 9*mib)
	a := w.archives[0]
	s := httptest.NewUnstartedServer(w.handler())
	s.Config.ErrorLog = nil
	s.StartTLS()
	t.Cleanup(s.Close)
	cfg := quick(s.URL)
	cfg.Patience = -1
	c, _ := client(t, cfg)
	err := c.download(t.Context(), a.rel, a.blocks, sinkFor(a), nil)
	wantErr(t, err, ErrUnavailable, s.URL+a.path(), "certificate")

	cfg.Roots = x509.NewCertPool()
	cfg.Roots.AddCert(s.Certificate())
	c, _ = client(t, cfg)
	sink := sinkFor(a)
	if err := c.download(t.Context(), a.rel, a.blocks, sink, nil); err != nil {
		t.Fatal(err)
	}
	sink.check(t)
}

// The environment is read once in a process, and a proxy is never used for this computer, so the client
// runs in a process of its own and asks for a host that only the proxy knows.
func TestProxyFromEnvironment(t *testing.T) {
	if os.Getenv("FETCH_TEST_CHILD") != "" {
		c, _ := client(t, quick("http://origin.invalid/base"))
		b, err := c.Upstreams()[0].Fetch(t.Context(), "timestamp.json", 100, update.Digest{})
		if err != nil || string(b) != "through the proxy" {
			t.Fatalf("%q, %v", b, err)
		}
		return
	}
	proxy := server(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.String() != "http://origin.invalid/base/metadata/timestamp.json" {
			t.Errorf("got %v", r.URL)
		}
		io.WriteString(rw, "through the proxy")
	}))
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProxyFromEnvironment$", "-test.v")
	cmd.Env = append(os.Environ(), "FETCH_TEST_CHILD=1", "HTTP_PROXY="+proxy.URL, "http_proxy=", "NO_PROXY=", "no_proxy=")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestProxyFromEnvironment") {
		t.Errorf("%v\n%s", err, out)
	}
}

// The cap holds for all downloads together. It may be exceeded by what is read at once.
func TestBandwidthCap(t *testing.T) {
	w := newWorld(t, 1*mib, 1*mib+1)
	cfg := quick(server(t, w.handler()).URL)
	cfg.Rate = 4 * mib
	c, _ := client(t, cfg)
	start := time.Now()
	done := make(chan error)
	for _, a := range w.archives {
		go func() { done <- c.download(t.Context(), a.rel, a.blocks, sinkFor(a), nil) }()
	}
	for range w.archives {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if got, least := time.Since(start), time.Duration(float64(2*mib-readSize)/(4*mib)*float64(time.Second)); got < least {
		t.Errorf("expected at least %v, got %v", least, got)
	}
}

func TestNewRefusesWhatIsNoUpstream(t *testing.T) {
	for _, s := range []string{"", "host", "host:80", "ftp://host", "http://", "http:///path", "http://host/?q", "http://host?", "http://host/#f", "http://host:port", "file:///etc"} {
		if c, err := New(Config{Upstreams: []string{s}}); err == nil || c != nil {
			t.Errorf("%q: no error", s)
		}
	}
	if _, err := New(Config{}); err == nil || !strings.Contains(err.Error(), "no upstream") {
		t.Error(err)
	}
	for _, s := range []string{"host", "http://host/path", "http://user@host", "https://host?q"} {
		if _, err := New(Config{Upstreams: []string{"http://host"}, Redirects: []string{s}}); err == nil || !strings.Contains(err.Error(), "redirects: ") {
			t.Errorf("redirect to %q: %v", s, err)
		}
	}
}

func TestPasswordIsNotShown(t *testing.T) {
	s := server(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if user, password, ok := r.BasicAuth(); !ok || user != "box" || password != "secret" {
			t.Errorf("got %q %q", user, password)
		}
		http.NotFound(rw, r)
	}))
	cfg := quick(strings.Replace(s.URL, "http://", "http://box:secret@", 1))
	cfg.Patience = -1
	c, log := client(t, cfg)
	w := newWorld(t, 9*mib)
	a := w.archives[0]
	err := c.download(t.Context(), a.rel, a.blocks, sinkFor(a), nil)
	wantErr(t, err, ErrNotFound, "http://127.0.0.1:")
	s.Close()
	err = c.download(t.Context(), a.rel, a.blocks, sinkFor(a), nil)
	wantErr(t, err, ErrUnavailable, "http://127.0.0.1:")
	if text := err.Error() + log.String(); strings.Contains(text, "secret") || strings.Contains(text, "box:") {
		t.Error(err, log)
	}
}
