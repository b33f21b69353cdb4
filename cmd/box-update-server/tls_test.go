package main_test

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
)

// askTLS asks with TLS and returns the answer and the serial number of the certificate.
func askTLS(c *http.Client, url string) (answer, int64, error) {
	resp, err := c.Get(url)
	if err != nil {
		return answer{}, 0, err
	}
	serial := resp.TLS.PeerCertificates[0].SerialNumber.Int64()
	a, err := readAnswer(resp)
	return a, serial, err
}

// A load asks again and again, on new connections and on old ones, over HTTP/1.1 and HTTP/2.
type load struct {
	stop   chan struct{}
	all    sync.WaitGroup
	asked  atomic.Int64
	newest atomic.Int64 // serial number of a certificate
	failed chan error
}

func (a *authority) load(url string, want []byte) *load {
	l := &load{stop: make(chan struct{}), failed: make(chan error, 1)}
	for i := range 4 {
		c := a.clientTLS(i%2 == 0)
		if i >= 2 {
			c.Transport.(*http.Transport).TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{} // HTTP/1.1
			c.Transport.(*http.Transport).ForceAttemptHTTP2 = false
		}
		l.all.Go(func() {
			for l.going() {
				l.ask(c, url, want)
			}
		})
	}
	return l
}

func (l *load) going() bool {
	select {
	case <-l.stop:
		return false
	default:
		return true
	}
}

func (l *load) ask(c *http.Client, url string, want []byte) {
	got, serial, err := askTLS(c, url)
	if err == nil && (got.status != 200 || got.body != string(want)) {
		err = fmt.Errorf("status %d, %d bytes", got.status, len(got.body))
	}
	if err != nil {
		select {
		case l.failed <- err:
		default:
		}
		return
	}
	l.asked.Add(1)
	for was := l.newest.Load(); serial > was && !l.newest.CompareAndSwap(was, serial); was = l.newest.Load() {
	}
}

// certificateHealth returns what the server says of its certificates.
func (s *server) certificateHealth(t *testing.T) (ok bool, warnings string) {
	t.Helper()
	var h struct {
		Subcomponents []struct {
			Name     string
			OK       bool
			Warnings []string
		}
	}
	if err := json.Unmarshal([]byte(get(t, s.base+"/").body), &h); err != nil {
		t.Fatal(err)
	}
	for _, c := range h.Subcomponents {
		if c.Name == "certificate" {
			return c.OK, strings.Join(c.Warnings, "\n")
		}
	}
	t.Fatalf("health says nothing of certificates: %+v", h)
	return false, ""
}

// A certificate is replaced twice while clients ask without pause. Between the two somebody puts a broken
// one there.
func TestCertificateIsReplacedUnderLoad(t *testing.T) {
	t.Parallel()
	a, d := newAuthority(t), pairDir(t.TempDir())
	s, secure := withTLS(t, d.put(t, a.issue(30*24*time.Hour)), map[string]any{"updates_dir": dropped(t, newest), "log_requests": false})
	l := a.load(secure+"/update/"+newest, body(newest))
	testworld.Await(t, "requests", func() bool { return l.asked.Load() > 100 })
	d.put(t, a.issue(30*24*time.Hour))
	testworld.Await(t, "the second certificate", func() bool { return l.newest.Load() == 2 })

	write(t, string(d), "fullchain.pem", []byte("-----BEGIN CERTIFICATE-----\n"))
	s.awaitLog(t, "level=ERROR", "the old one stays", d.certificate())
	testworld.Await(t, "a warning", func() bool {
		ok, warnings := s.certificateHealth(t)
		return ok && strings.Contains(warnings, "the old one stays")
	})
	before := l.asked.Load()
	testworld.Await(t, "requests", func() bool { return l.asked.Load() > before+100 })
	expired := a.issue(-time.Minute)
	d.put(t, expired)
	s.awaitLog(t, "level=ERROR", "the old one stays", "it is valid from")

	d.put(t, a.issue(24*time.Hour))
	testworld.Await(t, "the fourth certificate", func() bool { return l.newest.Load() == 4 })
	if ok, warnings := s.certificateHealth(t); !ok || warnings != "" {
		t.Errorf("got %v, %q", ok, warnings)
	}
	close(l.stop)
	l.all.Wait()
	select {
	case err := <-l.failed:
		t.Errorf("a request failed: %v", err)
	default:
		t.Logf("%d requests", l.asked.Load())
	}
}

func TestExpiryOfCertificateIsTold(t *testing.T) {
	t.Parallel()
	a, d := newAuthority(t), pairDir(t.TempDir())
	s, _ := withTLS(t, d.put(t, a.issue(2*time.Second)), map[string]any{"updates_dir": dropped(t, newest)})
	testworld.Await(t, "the end of the certificate", func() bool {
		ok, warnings := s.certificateHealth(t)
		return !ok && strings.Contains(warnings, "expired at")
	})
	d.put(t, a.issue(10*time.Minute))
	testworld.Await(t, "a warning", func() bool {
		ok, warnings := s.certificateHealth(t)
		return ok && strings.Contains(warnings, "expires at")
	})
	at := regexp.MustCompile(`(?m)^box_update_server_certificate_expiry_timestamp_seconds (\S+)$`).FindStringSubmatch(get(t, s.base+"/metrics").body)
	if at == nil {
		t.Fatal("no metric")
	}
	if n, err := strconv.ParseFloat(at[1], 64); err != nil || time.Until(time.Unix(int64(n), 0)) > 10*time.Minute || time.Until(time.Unix(int64(n), 0)) < 5*time.Minute {
		t.Errorf("the metric says %s, %v", at[1], err)
	}
}

// Who comes without TLS is sent on; downloads over TLS are whole, and only answers over TLS speak of HSTS.
func TestRedirectToTLS(t *testing.T) {
	t.Parallel()
	a, d := newAuthority(t), pairDir(t.TempDir())
	port := freePort(t)
	s := launch{settings: map[string]any{
		"updates_dir": dropped(t, newest), "tls_listen": fmt.Sprintf("127.0.0.1:%d", port), "tls_redirect": true, "hsts": "8760h",
		"tls_certificate": d.put(t, a.issue(24*time.Hour)).certificate(), "tls_key": d.key(),
	}}.start(t)
	there := fmt.Sprintf("https://127.0.0.1:%d", port)
	for method, status := range map[string]int{"GET": 301, "HEAD": 301, "PUT": 308} {
		got := do(t, method, s.base+"/update/"+newest+"?a=b")
		if got.status != status || got.header.Get("Location") != there+"/update/"+newest+"?a=b" || got.header["Strict-Transport-Security"] != nil {
			t.Errorf("%s: got %d, %v", method, got.status, got.header)
		}
	}
	s.awaitLog(t, "msg=request", "method=PUT path=/update/"+newest+" status=308 ")
	if got := raw(t, s.addr, "GET /ls HTTP/1.0\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.0 400 ") {
		t.Errorf("without a host: %q", got)
	}
	got, _, err := askTLS(a.clientTLS(true), there+"/update/"+newest)
	if err != nil {
		t.Fatal(err)
	}
	got.isArchive(t, newest, body(newest))
	got.has(t, "Strict-Transport-Security", "max-age=31536000")
	if code, stdout, stderr := asked(t, "--tls-redirect=true", "--listen", s.addr, "--tls-listen", there[len("https://"):],
		"--tls-certificate", d.certificate(), "--tls-key", d.key()); code != 0 || !strings.Contains(stdout, "ok") {
		t.Errorf("health: got %d, %q, %q", code, stdout, stderr)
	}
}

// A server may listen with TLS alone.
func TestTLSAlone(t *testing.T) {
	t.Parallel()
	a, d := newAuthority(t), pairDir(t.TempDir())
	d.put(t, a.issue(24*time.Hour))
	args := []string{"--updates-dir", dropped(t, newest), "--tls-listen", "127.0.0.1:0", "--tls-certificate", d.certificate(), "--tls-key", d.key()}
	s := launch{args: args}.start(t)
	resp, err := a.clientTLS(false).Get("https://" + s.addr + "/version")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "1550190683" || resp.ProtoMajor != 2 {
		t.Errorf("got %s, %q, %v", resp.Proto, b, err)
	}
	old := a.clientTLS(true)
	old.Transport.(*http.Transport).TLSClientConfig.MaxVersion = tls.VersionTLS11
	if _, _, err := askTLS(old, "https://"+s.addr+"/version"); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	if _, _, err := askTLS(newAuthority(t).clientTLS(true), "https://"+s.addr+"/version"); !errors.As(err, new(*tls.CertificateVerificationError)) {
		t.Errorf("with another authority: %v", err)
	}
}

// A SIGHUP leaves TLS as it is, and says so.
func TestReloadOfTLS(t *testing.T) {
	t.Parallel()
	a, d := newAuthority(t), pairDir(t.TempDir())
	d.put(t, a.issue(24*time.Hour))
	config := func(more string) []byte {
		return fmt.Appendf(nil, `{"updates_dir": %q, "listen": "127.0.0.1:0", "tls_listen": "127.0.0.1:0", "tls_certificate": %q, "tls_key": %q%s}`,
			dropped(t, newest), d.certificate(), d.key(), more)
	}
	dir := t.TempDir()
	s := launch{args: []string{"--config", write(t, dir, "config.json", config(""))}}.start(t)
	write(t, dir, "config.json", config(`, "hsts": "1h", "max_downloads": 1`))
	s.signal(t, syscall.SIGHUP)
	s.awaitLog(t, "new settings of TLS need a restart")
	got, _, err := askTLS(a.clientTLS(true), "https://"+s.secureAddr(t)+"/version")
	if err != nil || got.status != 200 || got.header["Strict-Transport-Security"] != nil {
		t.Errorf("got %+v, %v", got, err)
	}
}
