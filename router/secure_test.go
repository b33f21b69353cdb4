package router

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/router/front"
)

// newCertificate returns a certificate for 127.0.0.1, and who trusts it.
func newCertificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// A secured is a Server with TLS, and those who trust it.
type secured struct {
	server      *Server
	addr, plain string
	roots       *x509.CertPool
}

// startTLS serves c with TLS and without.
func startTLS(t *testing.T, c Config) secured {
	t.Helper()
	s, err := NewServer(c)
	if err != nil {
		t.Fatal(err)
	}
	certificate, roots := newCertificate(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.ServeTLS(l, &tls.Config{Certificates: []tls.Certificate{certificate}}) }()
	plain := serveOn(t, s)
	t.Cleanup(func() {
		_ = s.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serve: %v", err)
		}
	})
	return secured{s, l.Addr().String(), plain, roots}
}

// client returns a client that speaks one version of HTTP. Its receive buffer is that of download.
func (s secured) client(t *testing.T, major int) *http.Client {
	t.Helper()
	var protocols http.Protocols
	protocols.SetHTTP1(major == 1)
	protocols.SetHTTP2(major == 2)
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return c, c.(*net.TCPConn).SetReadBuffer(128 << 10)
	}
	transport := &http.Transport{Protocols: &protocols, DialContext: dial, TLSClientConfig: &tls.Config{RootCAs: s.roots}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: time.Minute}
}

// ask returns the answer to a request, its body still to come.
func (s secured) ask(t *testing.T, c *http.Client, method, path, byteRange string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "https://"+s.addr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if byteRange != "" {
		req.Header.Set("Range", byteRange)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

func TestTLS(t *testing.T) {
	f := newFake(t)
	body := bytes.Repeat([]byte("over a line that nobody reads "), 1<<17)
	f.add(t, newName, body, true)
	for name, limit := range map[string]int64{"unlimited": 0, "limited": 1 << 30} {
		s := startTLS(t, Config{Source: f, HSTS: time.Hour, MaxBandwidth: limit, MaxDownloads: limit})
		for major := 1; major <= 2; major++ {
			t.Run(fmt.Sprintf("%s, HTTP/%d", name, major), func(t *testing.T) { s.serves(t, major, body) })
		}
		if h := get(t, s.plain, "/update/"+newName).header["Strict-Transport-Security"]; h != nil {
			t.Errorf("without TLS: Strict-Transport-Security: %q", h)
		}
	}
}

func (s secured) serves(t *testing.T, major int, body []byte) {
	c := s.client(t, major)
	for _, r := range []struct {
		method, path, byteRange string
		status                  int
		body                    []byte
	}{
		{"GET", "/update/" + newName, "", 200, body},
		{"GET", "/update/" + newName, "bytes=1000-900999", 206, body[1000:901000]},
		{"GET", "/update/" + newName, "bytes=-1", 206, body[len(body)-1:]},
		{"HEAD", "/update/" + newName, "", 200, nil},
		{"GET", "/version", "", 200, []byte("1550190683")},
		{"GET", "/nothing", "", 404, []byte("Resource not found.")},
	} {
		resp := s.ask(t, c, r.method, r.path, r.byteRange)
		got, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != r.status || !bytes.Equal(got, r.body) || resp.ProtoMajor != major {
			t.Errorf("%s %s %s: %s %s, %d bytes, %v", r.method, r.path, r.byteRange, resp.Proto, resp.Status, len(got), err)
		}
		if h := resp.Header.Get("Strict-Transport-Security"); h != "max-age=3600" {
			t.Errorf("%s %s: Strict-Transport-Security %q", r.method, r.path, h)
		}
	}
}

// A client that takes nothing is cut; over HTTP/2 its other streams go on.
func TestStalledClientIsCutOverTLS(t *testing.T) {
	f := newFake(t)
	f.add(t, newName, make([]byte, 32<<20), true)
	for major := 1; major <= 2; major++ {
		t.Run(fmt.Sprintf("HTTP/%d", major), func(t *testing.T) {
			var log lines
			s := startTLS(t, Config{
				Source: f, Logger: slog.New(slog.NewTextHandler(&log, nil)), Requests: slog.New(slog.NewTextHandler(&log, nil)),
				Front: front.Config{StallWindow: 100 * time.Millisecond, MinRate: 1 << 20},
			})
			c := s.client(t, major)
			stalled := s.ask(t, c, "GET", "/update/"+newName, "")
			testworld.Await(t, "the stall is logged", func() bool { return strings.Contains(log.String(), "error=") })
			if resp := s.ask(t, c, "GET", "/livez", ""); resp.StatusCode != 200 {
				t.Errorf("afterwards: %s", resp.Status)
			}
			if n, err := io.Copy(io.Discard, stalled.Body); err == nil && n == 32<<20 {
				t.Error("the whole body arrived")
			}
		})
	}
}

// A trusted proxy that buffers takes nothing until its client has what is in the buffer. Where others are cut, it is not.
func TestProxyThatBuffersIsNotCut(t *testing.T) {
	f := newFake(t)
	f.add(t, newName, make([]byte, 32<<20), true)
	var log lines
	s := startTLS(t, Config{
		Source: f, Logger: slog.New(slog.NewTextHandler(&log, nil)), Requests: slog.New(slog.NewTextHandler(&log, nil)),
		Front: front.Config{StallWindow: 100 * time.Millisecond, MinRate: 1 << 20, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}},
	})
	proxies := map[string]io.Reader{}
	for name, major := range map[string]int{"plain": 1, "TLS, HTTP/1": 1, "TLS, HTTP/2": 2} {
		c := s.client(t, major)
		c.Transport.(*http.Transport).DialContext = nil // with a large buffer the rest comes faster
		url := "https://" + s.addr
		if name == "plain" {
			url = "http://" + s.plain
		}
		resp, err := c.Get(url + "/update/" + newName)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		proxies[name] = resp.Body
	}
	// Two others, one after the other, since some of them have a window or two.
	for n := 1; n <= 2; n++ {
		downloadFrom(t, net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}, s.plain, "/update/"+newName)
		testworld.Await(t, "the stall of another client is logged", func() bool { return strings.Count(log.String(), "the client has stalled") >= n })
	}
	for name, r := range proxies {
		if n, err := io.Copy(io.Discard, r); err != nil || n != 32<<20 {
			t.Errorf("%s: %d bytes came, %v", name, n, err)
		}
	}
}

// A client that takes little, yet enough, is not cut. Where this machine let it wait, it did not take enough and may
// have been cut: then it tries again.
func TestSlowClientIsNotCutOverTLS(t *testing.T) {
	const window = 500 * time.Millisecond
	f := newFake(t)
	body := bytes.Repeat([]byte("slow but living "), 8<<16)
	f.add(t, newName, body, true)
	s := startTLS(t, Config{Source: f, Front: front.Config{StallWindow: window, MinRate: 20_000}})
	for major := 1; major <= 2; major++ {
		t.Run(fmt.Sprintf("HTTP/%d", major), func(t *testing.T) {
			t.Parallel()
			for {
				resp := s.ask(t, s.client(t, major), "GET", "/update/"+newName, "")
				have, waited, err := takeSlowly(resp.Body, len(body))
				resp.Body.Close()
				switch {
				case err != nil && waited > window/2:
					t.Logf("the client waited for %v, and was cut after %d bytes: it tries again", waited, len(have))
					continue
				case err != nil:
					t.Errorf("after %d bytes: %v", len(have), err)
				case !bytes.Equal(have, body):
					t.Error("the bytes differ")
				}
				return
			}
		})
	}
}

// takeSlowly reads so many bytes, a piece every 20 ms, and returns the longest time that it took for one.
func takeSlowly(r io.Reader, size int) (have []byte, waited time.Duration, err error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var b bytes.Buffer
	for b.Len() < size && err == nil {
		last := time.Now()
		<-tick.C
		_, err = io.CopyN(&b, r, min(64<<10, int64(size-b.Len())))
		waited = max(waited, time.Since(last))
	}
	return b.Bytes(), waited, err
}

// Who comes without TLS is counted and logged once, whoever answers.
func TestPlain(t *testing.T) {
	f := newFake(t)
	f.add(t, newName, []byte("0123456789"), true)
	var log lines
	s := startTLS(t, Config{Source: f, Requests: slog.New(slog.NewTextHandler(&log, nil)), Plain: func(routes http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/ls" {
				http.Redirect(w, r, "https://there/", http.StatusMovedPermanently)
				return
			}
			routes.ServeHTTP(w, r)
		})
	}})
	get(t, s.plain, "/ls").hold(t, 301, nil)
	if g := get(t, s.plain, "/update/"+newName); g.status != 200 || g.body != "0123456789" {
		t.Errorf("got %d %q", g.status, g.body)
	}
	if resp := s.ask(t, s.client(t, 1), "GET", "/ls", ""); resp.StatusCode != 200 {
		t.Errorf("over TLS: %s", resp.Status)
	}
	testworld.Await(t, "three lines", func() bool { return strings.Count(log.String(), "\n") == 3 })
	if text := log.String(); !strings.Contains(text, "path=/ls status=301 ") || !strings.Contains(text, "path=/update/"+newName+" status=200 bytes=10 ") {
		t.Errorf("log:\n%s", text)
	}
	counted := scraped(t, s.plain)
	counted.is(t, `http_requests_total{code="301",route="other"}`, 1)
	counted.is(t, `http_requests_total{code="200",route="/update/:target"}`, 1)
}
