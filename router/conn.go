package router

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// pieceSize is how much of an archive one call to sendfile takes, so that a fast client does not keep
// a thread to itself.
const pieceSize = 1 << 20

// Up to smallBody bytes of an archive are copied behind their header, and both leave by one system call: to
// have so few sent by sendfile costs more than to copy them. A header of more than maxHeader bytes leaves
// by itself.
const (
	smallBody = 64 << 10
	maxHeader = 4 << 10
)

// proxyWindow is how long a trusted proxy may take nothing. One that buffers takes a gigabyte as fast as it comes, and
// then nothing until its client has that. It cuts its own stalled clients, and then hangs up.
const proxyWindow = 12 * time.Hour

// requestEnd ends a request without a body.
const requestEnd = "\r\n\r\n"

var (
	errFull    = errors.New("the client's connection takes no more now")
	errStalled = errors.New("the client has stalled")
)

// A conn is a connection that cuts a client which takes too little, and no other: each time a write
// has waited for the length of a window, it asks the kernel how much the client has acknowledged.
//
// It is written to by one goroutine at a time. When it is silent between requests, it leaves net/http
// for a lot.
type conn struct {
	*net.TCPConn
	raw     syscall.RawConn
	lot     *lot
	window  time.Duration
	minimum int64 // bytes that must be acknowledged in a window

	sent  int64     // bytes that the kernel took
	acked int64     // bytes that were acknowledged when the window began
	timed bool      // a window has begun
	until time.Time // when writing ends beside the windows; zero: never

	quiet  bool        // nothing has been read since the last request
	wanted time.Time   // what net/http set for reading, where an earlier deadline holds
	clean  bool        // what was read last ended with the end of a request
	parked atomic.Bool // Close hands the connection to the lot

	follows int64   // the next Write is a header, behind which a chunk of so many bytes is sent at once; 0: it is not
	held    *[]byte // the header of a small chunk; nil: none is held
	op      sendOp
	// Methods as values, made once.
	write, send, poll func(fd uintptr) bool
}

// A sendOp is the operands and the results of one system call.
type sendOp struct {
	data  []byte
	flags int
	file  int
	off   int64
	count int

	wait bool // wait while the connection is full
	n    int
	err  error
}

func newConn(c *net.TCPConn, l *lot) (*conn, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	out := &conn{TCPConn: c, raw: raw, lot: l, quiet: true, clean: true}
	out.window, out.minimum = l.config().stallLimit(c.RemoteAddr().String())
	out.write, out.send, out.poll = out.writeOnce, out.sendOnce, out.pollOnce
	return out, nil
}

// stallLimit returns how many bytes a peer must take in each window.
func (c Config) stallLimit(peer string) (window time.Duration, bytes int64) {
	if ip, ok := parseHost(peer); ok && within(ip, c.TrustedProxies) {
		return max(c.StallWindow, proxyWindow), 1
	}
	return c.StallWindow, max(1, int64(float64(c.MinRate)*c.StallWindow.Seconds()))
}

type connKey struct{}

func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// connOf returns the connection of a request, nil where the server is not a Server.
func connOf(r *http.Request) *conn {
	c, _ := r.Context().Value(connKey{}).(*conn)
	return c
}

// Write writes all of p unless the client stalls. The header of a small chunk is held until that comes.
func (c *conn) Write(p []byte) (int, error) {
	if err := c.release(); err != nil {
		return 0, err
	}
	follows, flags := c.follows, 0
	c.follows = 0
	switch {
	case follows == 0:
	case follows <= smallBody && len(p) <= maxHeader:
		c.held = c.lot.buffer()
		*c.held = append((*c.held)[:0], p...)
		return len(p), nil
	default:
		flags = unix.MSG_MORE
	}
	return c.writeAll(p, flags)
}

// release writes a header that was held.
func (c *conn) release() error {
	if c.held == nil {
		return nil
	}
	_, err := c.writeAll(c.letGo(*c.held), 0)
	return err
}

// letGo returns a copy of a part of what is held, whose room others may have: the client may take its time.
func (c *conn) letGo(part []byte) []byte {
	part = bytes.Clone(part)
	c.lot.buffers.Put(c.held)
	c.held = nil
	return part
}

func (c *conn) writeAll(p []byte, flags int) (int, error) {
	c.op = sendOp{data: p, flags: flags}
	for done := 0; ; {
		if err := c.do(c.write); err != nil {
			return done, err
		}
		done += c.op.n
		switch {
		case c.op.err == nil && done == len(p):
			c.op.data = nil
			return done, nil
		case c.op.err == nil:
			c.op.data = p[done:]
		case errors.Is(c.op.err, unix.EAGAIN):
			c.op.wait = true
			if err := c.begin(); err != nil {
				return done, err
			}
		default:
			return done, os.NewSyscallError("write", c.op.err)
		}
	}
}

func (c *conn) writeOnce(fd uintptr) bool {
	o := &c.op
	o.n, o.err = again(func() (int, error) {
		if o.flags == 0 {
			return unix.Write(int(fd), o.data)
		}
		return unix.SendmsgN(int(fd), o.data, nil, nil, o.flags)
	})
	return c.note()
}

// ReadFrom sends a chunk by sendfile as far as the connection takes it at once; errFull says that it
// took less. From any other reader it copies all.
func (c *conn) ReadFrom(src io.Reader) (int64, error) {
	k, ok := src.(*chunk)
	if !ok {
		return io.Copy(struct{ io.Writer }{c}, src)
	}
	start := k.off
	if err := c.sendHeld(k); err != nil {
		return k.off - start, err
	}
	for k.n > 0 {
		c.op = sendOp{file: int(k.file.Fd()), off: k.off, count: int(k.n)}
		err := c.do(c.send)
		runtime.KeepAlive(k.file)
		if err != nil {
			return k.off - start, err
		}
		if err := sendError(c.op); err != nil {
			return k.off - start, err
		}
		k.advance(int64(c.op.n))
	}
	return k.off - start, nil
}

// sendHeld sends the header that is held, with its chunk as far as the connection takes it at once.
func (c *conn) sendHeld(k *chunk) error {
	if c.held == nil {
		return nil
	}
	header := len(*c.held)
	both := (*c.held)[:header+int(k.n)]
	if _, err := k.file.ReadAt(both[header:], k.off); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF // the header says that more was to come
		}
		return errors.Join(err, c.release())
	}
	c.op = sendOp{data: both}
	err := c.do(c.write)
	sent := c.op.n
	rest := c.letGo(both[min(sent, header):header]) // after an error too: it must not be sent again
	k.advance(int64(max(0, sent-header)))
	if err == nil {
		err = sendError(c.op)
	}
	if err != nil && !errors.Is(err, errFull) || len(rest) == 0 {
		return err
	}
	_, err = c.writeAll(rest, unix.MSG_MORE)
	return err
}

func sendError(o sendOp) error {
	switch {
	case errors.Is(o.err, unix.EAGAIN):
		return errFull
	case o.err != nil:
		return os.NewSyscallError("send", o.err)
	case o.n == 0:
		return io.ErrUnexpectedEOF
	}
	return nil
}

func (c *conn) sendOnce(fd uintptr) bool {
	o := &c.op
	o.n, o.err = again(func() (int, error) { return unix.Sendfile(int(fd), o.file, &o.off, o.count) })
	return c.note()
}

// note counts what was sent. It reports whether the operation is done: a full connection is waited
// for only where that is wanted.
func (c *conn) note() bool {
	if c.op.n < 0 {
		c.op.n = 0
	}
	c.sent += int64(c.op.n)
	return !c.op.wait || !errors.Is(c.op.err, unix.EAGAIN)
}

func again(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// wait returns when the connection takes more, or with errStalled.
func (c *conn) wait() error {
	if err := c.begin(); err != nil {
		return err
	}
	return c.do(c.poll)
}

func (c *conn) pollOnce(fd uintptr) bool { return polled(fd, unix.POLLOUT) }

// do runs a system call, again and again while windows end and the client lives.
func (c *conn) do(op func(fd uintptr) bool) error {
	for {
		err := c.raw.Write(op)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		if err := c.next(); err != nil {
			return err
		}
	}
}

// begin begins a window unless there is one.
func (c *conn) begin() error {
	if c.timed {
		return nil
	}
	acked, err := c.acknowledged()
	if err != nil {
		return err
	}
	c.acked, c.timed = acked, true
	end := time.Now().Add(c.window)
	if !c.until.IsZero() {
		end = earlier(end, c.until)
	}
	return c.TCPConn.SetWriteDeadline(end)
}

// next ends a window and begins the next. A client that took too little is told nothing more: what
// the kernel still holds for it is dropped.
func (c *conn) next() error {
	if err := passed(c.until); err != nil {
		return err
	}
	acked, err := c.acknowledged()
	if err != nil {
		return err
	}
	if took := acked - c.acked; took < c.minimum {
		_ = c.SetLinger(0)
		return fmt.Errorf("%w: it took %d bytes in %v, fewer than %d", errStalled, took, c.window, c.minimum)
	}
	c.timed = false
	return c.begin()
}

// acknowledged returns how many of the bytes that were sent the client's kernel has.
func (c *conn) acknowledged() (int64, error) {
	queued, err := 0, error(nil)
	if e := c.raw.Control(func(fd uintptr) { queued, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }); e != nil {
		return 0, e
	}
	return c.sent - int64(queued), os.NewSyscallError("ioctl", err)
}

// SetWriteDeadline is net/http's way to end a window: it clears the deadline after each request.
// Deadlines other than none are the conn's own and not taken.
func (c *conn) SetWriteDeadline(t time.Time) error {
	if !c.timed || !t.IsZero() {
		return nil
	}
	c.timed = false
	return c.TCPConn.SetWriteDeadline(t)
}

// state follows net/http's view of the connection.
func state(nc net.Conn, s http.ConnState) {
	c, ok := nc.(*conn)
	if !ok {
		return
	}
	// At the end somebody may still be reading what is left of a request.
	switch s {
	case http.StateNew, http.StateIdle:
		c.quiet = true
	case http.StateActive:
		c.quiet = false
		c.restore()
	}
}

// Read reads. Between requests it gives up early, for Close to park the connection.
func (c *conn) Read(p []byte) (int, error) {
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

// SetReadDeadline sets the deadline, and an earlier one between requests. A connection stays with
// net/http where a part of the next request may be in its buffer.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.wanted = time.Time{}
	if c.quiet && c.clean && !t.IsZero() {
		c.wanted = t
		t = earlier(t, time.Now().Add(parkAfter))
	}
	return c.TCPConn.SetReadDeadline(t)
}

// restore sets the deadline that net/http wants.
func (c *conn) restore() {
	if c.wanted.IsZero() {
		return
	}
	_ = c.TCPConn.SetReadDeadline(c.wanted) // the next read says why
	c.wanted = time.Time{}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// Close closes the connection, or parks it where it was only silent.
func (c *conn) Close() error {
	if c.parked.Load() {
		return c.lot.park(c.TCPConn)
	}
	return c.TCPConn.Close()
}
