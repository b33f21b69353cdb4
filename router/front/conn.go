package front

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

// PieceSize is how much of an archive one call to sendfile takes, so that a fast client does not keep
// a thread to itself.
const PieceSize = 1 << 20

// A body of up to SmallBody bytes is copied behind its header, and both are sent by one system call: for so few
// bytes, sendfile costs more than copying. A header of more than maxHeader bytes is sent by itself.
const (
	SmallBody = 64 << 10
	maxHeader = 4 << 10
)

// proxyWindow is how long a trusted proxy may take nothing. A proxy that buffers may take a gigabyte at once, and
// then nothing until its client has received it. It cuts its own stalled clients, and then closes its connection to
// us.
const proxyWindow = 12 * time.Hour

// requestEnd ends a request without a body.
const requestEnd = "\r\n\r\n"

var (
	// ErrFull says that only a part of a Chunk was sent, because the client's connection takes no more now. Call
	// Wait, and then send the rest.
	ErrFull = errors.New("the client's connection takes no more now")

	errStalled = errors.New("the client has stalled")
)

// A Conn is a TCP connection that cuts a client only if it takes too little: each time a write has waited for the
// length of a window, the Conn asks the kernel how much the client has acknowledged.
//
// Only one goroutine at a time may write to it. A Conn that is silent between requests moves from net/http to
// idleConns.
type Conn struct {
	*net.TCPConn
	raw     syscall.RawConn
	idle    *idleConns
	window  time.Duration
	minimum int64 // bytes that must be acknowledged in a window

	sent  int64     // bytes that the kernel took
	acked int64     // bytes that were acknowledged when the window began
	timed bool      // a window has begun
	until time.Time // a deadline for writing besides the windows; zero: none

	quiet  bool        // nothing has been read since the last request
	wanted time.Time   // the read deadline that net/http set, while an earlier one is in force
	clean  bool        // what was read last ended with the end of a request
	parked atomic.Bool // Close hands the connection to idle

	follows int64   // length of the chunk that directly follows the next Write, a header; 0: none does
	held    *[]byte // the header of a small chunk; nil: none is held
	op      sendOp
	// Method values, made once, since making one allocates.
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

func newConn(c *net.TCPConn, l *idleConns) (*Conn, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	out := &Conn{TCPConn: c, raw: raw, idle: l, quiet: true, clean: true}
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

// A Chunk is the next N bytes of a file from Off on. A Conn sends it by sendfile.
type Chunk struct {
	File   *os.File
	Off, N int64
}

// Read reads by offset, for a writer that is no Conn. A file that ends early is io.ErrUnexpectedEOF.
func (k *Chunk) Read(p []byte) (int, error) {
	if k.N <= 0 {
		return 0, io.EOF
	}
	n, err := k.File.ReadAt(p[:min(int64(len(p)), k.N)], k.Off)
	k.Advance(int64(n))
	if n > 0 {
		return n, nil
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return 0, err
}

// Advance leaves out the next n bytes.
func (k *Chunk) Advance(n int64) {
	k.Off += n
	k.N -= n
}

type connKey struct{}

func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// ConnOf returns the connection of a request, nil with TLS, or if the server is not a Server.
func ConnOf(r *http.Request) *Conn {
	c, _ := r.Context().Value(connKey{}).(*Conn)
	return c
}

// Write writes all of p unless the client stalls. The header of a small chunk is held until the chunk comes.
func (c *Conn) Write(p []byte) (int, error) {
	if err := c.release(); err != nil {
		return 0, err
	}
	follows, flags := c.follows, 0
	c.follows = 0
	switch {
	case follows == 0:
	case follows <= SmallBody && len(p) <= maxHeader:
		c.held = c.idle.buffer()
		*c.held = append((*c.held)[:0], p...)
		return len(p), nil
	default:
		flags = unix.MSG_MORE
	}
	return c.writeAll(p, flags)
}

// release writes a header that was held.
func (c *Conn) release() error {
	if c.held == nil {
		return nil
	}
	_, err := c.writeAll(c.detach(*c.held), 0)
	return err
}

// detach returns a copy of a part of the held buffer, and gives the buffer to others, since the client may be slow.
func (c *Conn) detach(part []byte) []byte {
	part = bytes.Clone(part)
	c.idle.buffers.Put(c.held)
	c.held = nil
	return part
}

func (c *Conn) writeAll(p []byte, flags int) (int, error) {
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

func (c *Conn) writeOnce(fd uintptr) bool {
	o := &c.op
	o.n, o.err = again(func() (int, error) {
		if o.flags == 0 {
			return unix.Write(int(fd), o.data)
		}
		return unix.SendmsgN(int(fd), o.data, nil, nil, o.flags)
	})
	return c.note()
}

// ReadFrom sends a Chunk by sendfile. It doesn't wait: if the connection takes only a part, it returns ErrFull. It
// copies all of any other reader.
func (c *Conn) ReadFrom(src io.Reader) (int64, error) {
	k, ok := src.(*Chunk)
	if !ok {
		return io.Copy(struct{ io.Writer }{c}, src)
	}
	start := k.Off
	if err := c.sendHeld(k); err != nil {
		return k.Off - start, err
	}
	for k.N > 0 {
		c.op = sendOp{file: int(k.File.Fd()), off: k.Off, count: int(k.N)}
		err := c.do(c.send)
		runtime.KeepAlive(k.File)
		if err != nil {
			return k.Off - start, err
		}
		if err := sendError(c.op); err != nil {
			return k.Off - start, err
		}
		k.Advance(int64(c.op.n))
	}
	return k.Off - start, nil
}

// sendHeld sends the held header in full, and as much of its chunk as the connection takes at once.
func (c *Conn) sendHeld(k *Chunk) error {
	if c.held == nil {
		return nil
	}
	header := len(*c.held)
	both := (*c.held)[:header+int(k.N)]
	if _, err := k.File.ReadAt(both[header:], k.Off); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF // the header says that more was to come
		}
		return errors.Join(err, c.release())
	}
	c.op = sendOp{data: both}
	err := c.do(c.write)
	sent := c.op.n
	rest := c.detach(both[min(sent, header):header]) // after an error too: it must not be sent again
	k.Advance(int64(max(0, sent-header)))
	if err == nil {
		err = sendError(c.op)
	}
	if err != nil && !errors.Is(err, ErrFull) || len(rest) == 0 {
		return err
	}
	_, err = c.writeAll(rest, unix.MSG_MORE)
	return err
}

func sendError(o sendOp) error {
	switch {
	case errors.Is(o.err, unix.EAGAIN):
		return ErrFull
	case o.err != nil:
		return os.NewSyscallError("send", o.err)
	case o.n == 0:
		return io.ErrUnexpectedEOF
	}
	return nil
}

func (c *Conn) sendOnce(fd uintptr) bool {
	o := &c.op
	o.n, o.err = again(func() (int, error) { return unix.Sendfile(int(fd), o.file, &o.off, o.count) })
	return c.note()
}

// note counts what was sent. It reports whether the operation is done: on a full connection it is done unless op.wait
// is set.
func (c *Conn) note() bool {
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

// Follows announces that the next Write is a header, which a Chunk of n bytes directly follows. 0 withdraws that.
func (c *Conn) Follows(n int64) { c.follows = n }

// Wait waits, after ErrFull, until the connection takes more. It returns an error if the client stalls.
func (c *Conn) Wait() error {
	if err := c.begin(); err != nil {
		return err
	}
	return c.do(c.poll)
}

func (c *Conn) pollOnce(fd uintptr) bool { return polled(fd, unix.POLLOUT) }

// do runs a system call, and repeats it after each window in which the client took enough.
func (c *Conn) do(op func(fd uintptr) bool) error {
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

// begin starts a window unless one has started.
func (c *Conn) begin() error {
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

// next ends a window and starts the next one. If the client took too little, next returns an error, and closing the
// connection drops the bytes that the kernel still holds for it.
func (c *Conn) next() error {
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

// acknowledged returns how many of the sent bytes the client's kernel has acknowledged.
func (c *Conn) acknowledged() (int64, error) {
	queued, err := 0, error(nil)
	if e := c.raw.Control(func(fd uintptr) { queued, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }); e != nil {
		return 0, e
	}
	return c.sent - int64(queued), os.NewSyscallError("ioctl", err)
}

// SetWriteDeadline ends the window if t is zero: net/http clears the deadline after each request. Other deadlines are
// ignored, because the Conn sets its own.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	if !c.timed || !t.IsZero() {
		return nil
	}
	c.timed = false
	return c.TCPConn.SetWriteDeadline(t)
}
