package main_test

import (
	"io"
	"net"
	"sync"
	"testing"
)

// A relay passes bytes to a server, and can stop in the middle of what clients send.
type relay struct {
	base string
	addr string // of the server

	mu    sync.Mutex
	conns []net.Conn
	left  int64         // bytes of clients that still pass
	open  chan struct{} // closed: no bound any more
}

// relayTo starts a relay that lets this many bytes of clients pass, and holds the next until lift.
func relayTo(t *testing.T, addr string, bytes int64) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{base: "http://" + l.Addr().String(), addr: addr, left: bytes, open: make(chan struct{})}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { r.pass(client) })
		}
	})
	t.Cleanup(func() {
		r.lift()
		_ = l.Close()
		r.cut()
		all.Wait()
	})
	return r
}

// lift lets everything pass from now on.
func (r *relay) lift() {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.open:
	default:
		close(r.open)
	}
}

// cut closes all connections.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		_ = c.Close()
	}
	r.conns = nil
}

func (r *relay) pass(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", r.addr)
	if err != nil {
		return
	}
	defer server.Close()
	r.mu.Lock()
	r.conns = append(r.conns, client, server)
	r.mu.Unlock()
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(client, server) // whichever side ends
		_ = client.Close()
	})
	_, _ = io.Copy(server, &bounded{client, r})
	_ = server.(*net.TCPConn).CloseWrite()
	back.Wait()
}

// take blocks while nothing may pass.
func (r *relay) take(n int) {
	r.mu.Lock()
	r.left -= int64(n)
	held := r.left < 0
	r.mu.Unlock()
	if held {
		<-r.open
	}
}

// bounded reads what the relay lets pass.
type bounded struct {
	src io.Reader
	r   *relay
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.src.Read(p)
	b.r.take(n)
	return n, err
}
