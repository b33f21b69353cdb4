package front

import (
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// parkAfter is how long a connection may be silent between requests before it leaves net/http.
const parkAfter = 200 * time.Millisecond

// idleConns holds idle connections. net/http spends 20 kB on each, most of it on buffers and on a stack that grew
// while a request was answered; here an idle connection costs 6 kB. A connection comes here when net/http closes it
// because it was silent. When there is something to read, Accept returns it as if it were new.
//
// It is a net.Listener.
type idleConns struct {
	config func() Config // as it is now
	limit  *idleLimit
	addr   net.Addr
	ready  chan *net.TCPConn
	done   chan struct{} // closed by Close

	mu     sync.Mutex
	parked map[*net.TCPConn]struct{}
	closed bool

	buffers sync.Pool // of *[]byte, for small bodies with their headers
}

func newIdleConns(addr net.Addr, limit *idleLimit) *idleConns {
	return &idleConns{
		config: limit.config,
		limit:  limit,
		addr:   addr,
		ready:  make(chan *net.TCPConn),
		done:   make(chan struct{}),
		parked: map[*net.TCPConn]struct{}{},
	}
}

// buffer returns room for a header and a small body.
func (l *idleConns) buffer() *[]byte {
	if b, ok := l.buffers.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, 0, maxHeader+SmallBody)
	return &b
}

// park takes over a connection on which nothing has been read since its last request. It closes the
// connection when it stays silent for Config.IdleTimeout, and at Close.
func (l *idleConns) park(c *net.TCPConn) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return c.Close()
	}
	l.parked[c] = struct{}{}
	l.limit.enter(c)
	go l.watch(c)
	return nil
}

func (l *idleConns) watch(c *net.TCPConn) {
	readable := awaitReadable(c, l.config().IdleTimeout)
	l.limit.leave(c)
	l.mu.Lock()
	delete(l.parked, c)
	l.mu.Unlock()
	if !readable {
		_ = c.Close() // nothing is under way
		return
	}
	select {
	case l.ready <- c:
	case <-l.done:
		_ = c.Close()
	}
}

// awaitReadable waits until there is something to read, which includes the client closing the connection. It reports
// false if limit passes or c is closed first.
func awaitReadable(c *net.TCPConn, limit time.Duration) bool {
	raw, err := c.SyscallConn()
	if err != nil || c.SetReadDeadline(time.Now().Add(limit)) != nil {
		return false
	}
	return raw.Read(func(fd uintptr) bool { return polled(fd, unix.POLLIN) }) == nil
}

// polled reports whether a file descriptor is ready. The runtime reports only later changes, so polled has to be
// called before each wait.
func polled(fd uintptr, events int16) bool {
	p := [1]unix.PollFd{{Fd: int32(fd), Events: events}}
	n, err := again(func() (int, error) { return unix.Poll(p[:], 0) })
	return n > 0 || err != nil
}

// wrap makes a TCP connection a Conn that l keeps while it is idle.
func (l *idleConns) wrap(c *net.TCPConn) (net.Conn, error) { return newConn(c, l) }

// Accept returns the next connection that has something to read.
func (l *idleConns) Accept() (net.Conn, error) {
	select {
	case c := <-l.ready:
		return l.wrap(c)
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close closes all parked connections.
func (l *idleConns) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	close(l.done)
	for c := range l.parked {
		_ = c.Close()
	}
	return nil
}

// Addr returns the address of the listener that the connections came from.
func (l *idleConns) Addr() net.Addr { return l.addr }

// state follows the state that net/http gives the connection.
func state(nc net.Conn, s http.ConnState) {
	c, ok := nc.(*Conn)
	if !ok {
		return
	}
	// Nothing is done on closing, when a goroutine may still be reading the rest of a request.
	switch s {
	case http.StateNew, http.StateIdle:
		c.quiet = true
	case http.StateActive:
		c.quiet = false
		c.restore()
	}
}

// Read reads. Between requests it times out early, so that net/http calls Close, which parks the connection.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	if n == 0 {
		if c.quiet && c.clean && errors.Is(err, os.ErrDeadlineExceeded) {
			c.parked.Store(true)
		}
		return 0, err
	}
	c.clean = string(p[max(0, n-len(requestEnd)):n]) == requestEnd
	if c.quiet {
		c.quiet = false
		if !c.clean {
			c.restore() // the rest of the request is still to come
		}
	}
	return n, err
}

// SetReadDeadline sets the deadline, but between requests at most parkAfter ahead. If a part of the next request may
// be in net/http's buffer, the connection stays with net/http.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.wanted = time.Time{}
	if c.quiet && c.clean && !t.IsZero() {
		c.wanted = t
		t = earlier(t, time.Now().Add(parkAfter))
	}
	return c.TCPConn.SetReadDeadline(t)
}

// restore sets the deadline that net/http asked for.
func (c *Conn) restore() {
	if c.wanted.IsZero() {
		return
	}
	_ = c.TCPConn.SetReadDeadline(c.wanted) // the next read returns the error
	c.wanted = time.Time{}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// Close closes the connection, or parks it if it was only silent.
func (c *Conn) Close() error {
	if c.parked.Load() {
		return c.idle.park(c.TCPConn)
	}
	return c.TCPConn.Close()
}
