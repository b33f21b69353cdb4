package front

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openpowerquality/box-update-server/internal/testworld"
)

func answerOK(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }

// newTestServer returns a server that answers all with "ok", and what is not set is generous.
func newTestServer(c Config) *Server {
	c.Logger = slog.New(slog.DiscardHandler)
	if c.IdleTimeout == 0 {
		c.IdleTimeout = 2 * time.Minute
	}
	if c.StallWindow == 0 {
		c.StallWindow, c.MinRate = time.Minute, 64
	}
	return NewServer(func() Config { return c }, answerOK, answerOK)
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// serve runs listeners of a server until the test ends.
func serve(t *testing.T, s *Server, all ...func() error) {
	t.Helper()
	done := make(chan error, len(all))
	for _, one := range all {
		go func() { done <- one() }()
	}
	t.Cleanup(func() {
		_ = s.Close()
		for range all {
			<-done
		}
	})
}

// startIdle serves with idle connections that the test can look into.
func startIdle(t *testing.T) (*idleConns, string) {
	t.Helper()
	s, inner := newTestServer(Config{}), listen(t)
	l := newIdleConns(inner.Addr(), s.limit)
	serve(t, s, func() error { return s.Plain.Serve(l) }, func() error { return s.Plain.Serve(listener{inner, l.wrap}) })
	return l, inner.Addr().String()
}

func (l *idleConns) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.parked)
}

// askOn sends a request on a connection, and reads the answer.
func askOn(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := io.WriteString(c, "GET /livez HTTP/1.1\r\nHost: test\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	readOK(t, bufio.NewReader(c))
}

func readOK(t *testing.T, r *bufio.Reader) {
	t.Helper()
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 || string(b) != "ok" {
		t.Fatalf("%v %q %v", resp.Status, b, err)
	}
}

// An idle connection leaves net/http and comes back, and does so again.
func TestIdleConnectionIsParked(t *testing.T) {
	l, addr := startIdle(t)
	c := testworld.Dial(t, addr)
	for range 3 {
		testworld.Await(t, "the connection is parked", func() bool { return l.count() == 1 })
		askOn(t, c)
	}
}

// A part of a request that has come is not lost, and the rest has the time that it should have.
func TestPartOfRequestIsKept(t *testing.T) {
	const request = "GET /livez HTTP/1.1\r\nHost: test\r\n\r\n"
	for name, first := range map[string]string{
		"of the first":        request[:2],
		"of the first's end":  request[:len(request)-2],
		"of a pipelined":      request + request[:2],
		"of a long pipelined": request + request[:20],
	} {
		t.Run(name, func(t *testing.T) {
			l, addr := startIdle(t)
			c := testworld.Dial(t, addr)
			if _, err := io.WriteString(c, first); err != nil {
				t.Fatal(err)
			}
			// Another connection is silent for as long: once it is parked, this one would be.
			testworld.Dial(t, addr)
			testworld.Await(t, "the other connection is parked", func() bool { return l.count() == 1 })
			if _, err := io.WriteString(c, strings.Repeat(request, 2)[len(first):]); err != nil {
				t.Fatal(err)
			}
			r := bufio.NewReader(c)
			for range 2 {
				readOK(t, r)
			}
		})
	}
}

// One more idle connection closes the oldest of its address.
func TestOldestIdleConnectionMakesRoom(t *testing.T) {
	const most = 3
	for _, kind := range []string{"HTTP/1", "HTTP/1 over TLS", "HTTP/2"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := newTestServer(Config{MaxIdle: most})
			own := httptest.NewTLSServer(nil)
			certificate, roots := own.TLS.Certificates[0], x509.NewCertPool()
			roots.AddCert(own.Certificate())
			own.Close()
			plain, secure := listen(t), listen(t)
			serve(t, s, func() error { return s.Serve(plain) },
				func() error { return s.ServeTLS(secure, &tls.Config{Certificates: []tls.Certificate{certificate}}) })
			dial := func() net.Conn {
				if kind == "HTTP/1" {
					c := testworld.Dial(t, plain.Addr().String())
					askOn(t, c)
					return c
				}
				config := &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"}
				if kind == "HTTP/2" {
					config.NextProtos = []string{"h2"}
				}
				c := tls.Client(testworld.Dial(t, secure.Addr().String()), config)
				if kind != "HTTP/2" {
					askOn(t, c)
				} else if _, err := io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"); err != nil { // and empty settings
					t.Fatal(err) // it needs no request to be idle
				}
				return c
			}
			idle := s.limit
			var all []net.Conn
			for n := 1; n <= most+1; n++ {
				c := dial()
				all = append(all, c)
				testworld.Await(t, "it is idle", func() bool {
					idle.mu.Lock()
					defer idle.mu.Unlock()
					for known := range idle.places {
						if known.RemoteAddr().String() == c.LocalAddr().String() {
							return true
						}
					}
					return false
				})
			}
			if _, err := io.Copy(io.Discard, bufio.NewReader(all[0])); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the oldest is open")
			}
			if kind != "HTTP/2" {
				askOn(t, all[1])
			}
			_ = all[2].Close()
			testworld.Await(t, "the closed one is forgotten", func() bool {
				idle.mu.Lock()
				defer idle.mu.Unlock()
				return len(idle.places) == most-1
			})
		})
	}
}

// Addresses don't count for each other, and trusted proxies don't count.
func TestIdleConnectionsCountByAddress(t *testing.T) {
	t.Parallel()
	i := newIdleLimit(func() Config {
		return Config{MaxIdle: 1, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")}}
	})
	conn := func(ip string) *fakeConn {
		return &fakeConn{addr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(ip + ":9"))}
	}
	one, other, proxy, second := conn("192.0.2.1"), conn("192.0.2.2"), conn("10.0.0.1"), conn("10.0.0.1")
	for _, c := range []*fakeConn{one, other, proxy, second} {
		i.enter(c)
	}
	if one.closed || other.closed || proxy.closed {
		t.Error("an address that has no more than it may lost a connection")
	}
	i.enter(one) // again: it is the same one
	i.enter(conn("192.0.2.1"))
	if !one.closed || other.closed {
		t.Error("another one than the oldest of the address was closed")
	}
	for c := range i.places {
		i.leave(c)
	}
	if len(i.byFrom) != 0 {
		t.Errorf("%d addresses are left", len(i.byFrom))
	}
}

type fakeConn struct {
	net.Conn
	addr   net.Addr
	closed bool
}

func (c *fakeConn) RemoteAddr() net.Addr { return c.addr }
func (c *fakeConn) Close() error         { c.closed = true; return nil }

// A client that was given nothing for a while is not cut for having taken nothing.
func TestPausedDownloadIsNotStalled(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	tcp, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	const window = 200 * time.Millisecond
	server, err := newConn(tcp.(*net.TCPConn), &idleConns{config: func() Config { return Config{StallWindow: window, MinRate: 1 << 20} }})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	if err := server.SetWriteBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	full := make([]byte, 16<<20)
	written := make(chan error, 1)
	go func() {
		_, err := server.Write(full)
		written <- err
	}()
	testworld.Await(t, "the connection is full", func() bool { return queued(t, server) > 16<<10 })
	drained := make(chan error, 1)
	go func() {
		_, err := io.CopyN(io.Discard, client, int64(len(full))+2)
		drained <- err
	}()
	if err := <-written; err != nil || !server.timed {
		t.Fatalf("no window began: %v", err)
	}
	for range 2 {
		<-time.After(3 * window / 2) // the kernel's clock counts: there is no event to wait for
		if err := server.SetWriteDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		if _, err := server.Write(full[:1]); err != nil {
			t.Fatalf("after the pause: %v", err)
		}
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

// queued returns how many bytes the client has not acknowledged.
func queued(t *testing.T, c *Conn) (n int) {
	t.Helper()
	err := c.raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TLS ends a connection by saying so. A client that takes nothing must not hold that up for longer than TLS
// wants.
func TestDeadlineOfSecureConn(t *testing.T) {
	c := fullConn(t, time.Minute)
	if err := c.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(make([]byte, 1<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// fullConn returns a connection that takes no more.
func fullConn(t *testing.T, window time.Duration) *secureConn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	config := func() Config { return Config{StallWindow: window, MinRate: 1} }
	accepted := make(chan net.Conn, 1)
	go func() {
		wrap := func(c *net.TCPConn) (net.Conn, error) { return newSecureConn(c, config) }
		c, err := listener{l, wrap}.Accept()
		if err != nil {
			t.Error(err)
		}
		accepted <- c
	}()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := (<-accepted).(*secureConn)
	t.Cleanup(func() { _, _, _ = client.Close(), c.Close(), l.Close() })
	if err := c.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(make([]byte, 32<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the connection took all: %v", err)
	}
	return c
}
