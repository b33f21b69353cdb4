package router

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
)

// One more idle connection closes the oldest of its address.
func TestOldestIdleConnectionMakesRoom(t *testing.T) {
	for name, dial := range map[string]func(t *testing.T, s secured) net.Conn{
		"HTTP/1": func(t *testing.T, s secured) net.Conn { return connect(t, s.plain) },
		"HTTP/1 over TLS": func(t *testing.T, s secured) net.Conn {
			return tls.Client(connect(t, s.addr), &tls.Config{RootCAs: s.roots, ServerName: "127.0.0.1"})
		},
		"HTTP/2": func(t *testing.T, s secured) net.Conn { return s.shut(t) }, // it needs no request to be idle
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const most = 3
			s := startTLS(t, Config{Source: newFake(t), MaxIdle: most})
			idle := s.server.idle
			var all []net.Conn
			for n := 1; n <= most+1; n++ {
				c := dial(t, s)
				all = append(all, c)
				if _, two := c.(rawHTTP2); !two {
					askOn(t, c, "GET /livez HTTP/1.1").hold(t, 200, nil)
				}
				await(t, "it is idle", func() bool {
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
			if _, two := all[1].(rawHTTP2); !two {
				askOn(t, all[1], "GET /livez HTTP/1.1").hold(t, 200, nil)
			}
			_ = all[2].Close()
			await(t, "the closed one is forgotten", func() bool {
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
	i := newIdleConns(func() Config {
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
