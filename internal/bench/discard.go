package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// discardRate downloads path from addr over n connections, again and again, for the given time and
// returns bytes of archives per second. The bytes are thrown away in the kernel, so that the client
// costs little beside the server.
func discardRate(ctx context.Context, addr, path string, n int, d time.Duration) (float64, error) {
	conns, err := dialAll(ctx, addr, n)
	defer closeAll(conns)
	if err != nil {
		return 0, err
	}
	got := make([]int64, n)
	begin := time.Now()
	var g errgroup.Group
	for i, conn := range conns {
		g.Go(func() (err error) {
			if err := conn.SetDeadline(begin.Add(d)); err != nil {
				return err
			}
			got[i], err = discardUntilDeadline(conn, addr, path)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	took := time.Since(begin)
	var sum int64
	for _, b := range got {
		sum += b
	}
	return float64(sum) / took.Seconds(), nil
}

// discardUntilDeadline downloads until the connection's deadline and returns how many bytes came.
func discardUntilDeadline(conn *net.TCPConn, addr, path string) (total int64, err error) {
	for {
		length, err := ask(conn, addr, path)
		if err == nil {
			var n int64
			n, err = discard(conn, length)
			total += n
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// discard drops n bytes of the stream in the kernel (MSG_TRUNC of Linux's tcp(7)) and returns how many.
func discard(conn *net.TCPConn, n int64) (done int64, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	// The kernel looks at the length of the buffer alone.
	buffer := make([]byte, 256*kB)
	for done < n {
		var got int
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			got, _, failed = unix.Recvfrom(int(fd), buffer[:min(n-done, int64(len(buffer)))], unix.MSG_TRUNC)
			return !errors.Is(failed, unix.EAGAIN)
		})
		if err := errors.Join(err, failed); err != nil {
			return done, err
		}
		if got == 0 {
			return done, fmt.Errorf("the server hung up with %d bytes to come", n-done)
		}
		done += int64(got)
		runtime.Gosched() // the others' turn: a stream that never runs dry must not starve them
	}
	return done, nil
}

// ask requests path and reads the head of the answer, which must be 200. It returns how many bytes of
// the body are to come: a few may have come with the head.
func ask(conn net.Conn, addr, path string) (int64, error) {
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, addr); err != nil {
		return 0, err
	}
	head, body, err := readHead(conn)
	if err != nil {
		return 0, err
	}
	if !strings.HasPrefix(head, "HTTP/1.1 200 ") {
		return 0, fmt.Errorf("get %s: %q", path, head)
	}
	for text := range strings.Lines(head) {
		name, value, _ := strings.Cut(text, ":")
		if strings.EqualFold(name, "Content-Length") {
			length, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
			return length - int64(body), err
		}
	}
	return 0, fmt.Errorf("get %s: no Content-Length in %q", path, head)
}

// readHead reads up to the empty line. It returns how many bytes it read of the body that follows.
func readHead(conn net.Conn) (head string, body int, err error) {
	buffer := make([]byte, 4*kB)
	for n := 0; n < len(buffer); {
		got, err := conn.Read(buffer[n:])
		n += got
		if head, rest, ok := strings.Cut(string(buffer[:n]), "\r\n\r\n"); ok {
			return head, len(rest), nil
		}
		if err != nil {
			return "", 0, err
		}
	}
	return "", 0, fmt.Errorf("no end of the head in %q", buffer)
}

// dialAll opens n connections. The caller closes what is returned, also beside an error.
func dialAll(ctx context.Context, addr string, n int) ([]*net.TCPConn, error) {
	conns := make([]*net.TCPConn, 0, n)
	for i := range n {
		conn, err := dial(ctx, addr, i, 0)
		if err != nil {
			return conns, err
		}
		conns = append(conns, conn)
	}
	return conns, nil
}

// dial opens connection number i. Connections come from eight addresses in turn, so that their ports
// suffice. window is the receive buffer in bytes, 0 for the kernel's choice.
func dial(ctx context.Context, addr string, i, window int) (*net.TCPConn, error) {
	d := net.Dialer{
		LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+i%8))},
		Timeout:   10 * time.Second,
		KeepAlive: -1,
	}
	if window > 0 {
		d.ControlContext = func(_ context.Context, _, _ string, c syscall.RawConn) error {
			return setWindow(c, window)
		}
	}
	conn, err := d.DialContext(ctx, "tcp4", addr)
	if err != nil {
		return nil, fmt.Errorf("connection %d: %w", i+1, err)
	}
	return conn.(*net.TCPConn), nil
}

func setWindow(c syscall.RawConn, bytes int) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, bytes)
	})
	return errors.Join(err, failed)
}

// closeAll closes connections over which nothing more is expected; nil ones were never opened.
func closeAll(conns []*net.TCPConn) {
	for _, c := range conns {
		if c != nil {
			c.Close()
		}
	}
}
