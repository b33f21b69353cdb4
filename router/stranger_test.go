package router

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// begin sends the head of a list of that length, and the beginning of it.
func begin(t *testing.T, addr string, length, have int) net.Conn {
	t.Helper()
	c := connect(t, addr)
	if _, err := fmt.Fprintf(c, "PUT /publish/targets/1 HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n%s", length, strings.Repeat(" ", have)); err != nil {
		t.Fatal(err)
	}
	return c
}

// coming waits until so many bodies of strangers come.
func (s *Server) coming(t *testing.T, want int) {
	t.Helper()
	await(t, "the bodies come", func() bool {
		l := &s.bodies.strangers
		l.mu.Lock()
		defer l.mu.Unlock()
		for body := range l.coming {
			if body.have.Load() == 0 {
				return false
			}
		}
		return len(l.coming) == want
	})
}

// Callers who send junk as slowly as they may don't keep a signer out: the slowest make way.
func TestSlowStrangersMakeWay(t *testing.T) {
	p := newFakePublisher()
	s, err := NewServer(Config{Source: newFake(t), Publisher: p})
	if err != nil {
		t.Fatal(err)
	}
	s.bodies.strangers.grace = 0
	addr := serveOn(t, s)
	const half = strangerMemory/2 - 1000
	slow, faster := begin(t, addr, half, 10), begin(t, addr, half, 1<<20)
	s.coming(t, 2)
	list := []byte(`{"signatures":[],"signed":{"version":1}}` + strings.Repeat("\n", 100_000))
	put(t, addr, "/publish/targets/1", list).hold(t, 200, nil)
	answerOn(t, bufio.NewReader(slow), "PUT").fails(t, 408, "slow")
	s.coming(t, 1)
	// Who is in nobody's way goes on.
	if _, err := faster.Write([]byte(strings.Repeat(" ", half-1<<20))); err != nil {
		t.Fatal(err)
	}
	answerOn(t, bufio.NewReader(faster), "PUT").hold(t, 200, nil)
	if !s.bodies.all.TryAcquire(bodyMemory) || !s.bodies.stranger.TryAcquire(strangerMemory) {
		t.Error("some memory is still taken")
	}
}

// A body that has just begun has its time.
func TestStrangersHaveTheirTime(t *testing.T) {
	t.Parallel()
	s, err := NewServer(Config{Source: newFake(t), Publisher: newFakePublisher()})
	if err != nil {
		t.Fatal(err)
	}
	s.bodies.strangers.grace = time.Hour
	addr := serveOn(t, s)
	const length = 4 << 20
	first := begin(t, addr, length, 10)
	s.coming(t, 1)
	put(t, addr, "/publish/targets/1", make([]byte, strangerMemory-length+1)).fails(t, 503, "busy")
	if _, err := first.Write([]byte(strings.Repeat(" ", length-10))); err != nil {
		t.Fatal(err)
	}
	answerOn(t, bufio.NewReader(first), "PUT").hold(t, 200, nil)
}
