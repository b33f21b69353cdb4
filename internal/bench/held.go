package main

import (
	"context"
	"fmt"
	"net"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// heldConnections is how many connections are held open while memory is measured.
const heldConnections = 10000

// measureIdle measures the memory of connections that wait after one request.
func measureIdle(ctx context.Context, l *lab) error {
	f := figure{family: "idle", what: "memory, 10,000 idle connections", goal: goal{valueAtMost, 200}}
	return l.held(ctx, f, "/version", 0, answered)
}

// measureUnread measures the memory of connections whose clients asked for 1 MB and read only the head
// of the answer. Their receive buffers are small: what the server's kernel holds is the same then for
// every server and leaves room for all connections.
func measureUnread(ctx context.Context, l *lab) error {
	f := figure{family: "unread", what: "memory, 10,000 unread bodies of 1 MB", goal: goal{valueAtMost, 300}}
	return l.held(ctx, f, "", 16*kB, asked)
}

// A visit uses a connection before it is held.
type visit func(conn *net.TCPConn, addr, path string) error

// answered asks for path and reads the answer.
func answered(conn *net.TCPConn, addr, path string) error {
	length, err := ask(conn, addr, path)
	if err != nil {
		return err
	}
	_, err = discard(conn, length)
	return err
}

// asked asks for path and reads no more than the head of the answer.
func asked(conn *net.TCPConn, addr, path string) error {
	_, err := ask(conn, addr, path)
	return err
}

// held fills in f with the memory of fresh servers of which each connection visited path, or the
// archive where path is empty.
func (l *lab) held(ctx context.Context, f figure, path string, window int, v visit) error {
	data, err := l.archives(f.family, 1, mB)
	if err != nil {
		return err
	}
	defer data.remove()
	if path == "" {
		path = data.path()
	}
	f.unit, f.against = "MB", "nginx"
	f.command = "go run ./internal/bench " + f.family
	for range min(l.pairs, 3) {
		if err := l.holdBoth(ctx, &f, data, func(p *process) (memory, error) { return hold(ctx, p, path, window, v) }); err != nil {
			return fmt.Errorf("%s: %w", f.what, err)
		}
	}
	l.add(f)
	return nil
}

// holdBoth adds the memory of two fresh servers to f.
func (l *lab) holdBoth(ctx context.Context, f *figure, data drop, hold func(*process) (memory, error)) error {
	d, err := l.duel(ctx, data.dir, data.names, "/version")
	if err != nil {
		return err
	}
	defer d.stop()
	ours, err := hold(d.ours)
	if err != nil {
		return err
	}
	theirs, err := hold(d.nginx)
	if err != nil {
		return err
	}
	f.ours, f.theirs = append(f.ours, ours.now/mB), append(f.theirs, theirs.now/mB)
	f.note = peakNote([2]sample{{ours.peak / mB}, {theirs.peak / mB}})
	return nil
}

// hold opens the connections, visits path on each, and returns the memory of the server while all are
// open.
func hold(ctx context.Context, p *process, path string, window int, v visit) (memory, error) {
	conns := make([]*net.TCPConn, heldConnections)
	defer closeAll(conns)
	var g errgroup.Group
	g.SetLimit(64)
	for i := range conns {
		g.Go(func() (err error) {
			if conns[i], err = dial(ctx, p.addr, i, window); err != nil {
				return err
			}
			if err := conns[i].SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
				return err
			}
			if err := v(conns[i], p.addr, path); err != nil {
				return fmt.Errorf("connection %d: %w", i+1, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return memory{}, err
	}
	time.Sleep(time.Second) // for the server to come to rest
	if err := allOpen(conns); err != nil {
		return memory{}, err
	}
	return p.memory()
}

// allOpen fails if the server hung up on a connection.
func allOpen(conns []*net.TCPConn) error {
	for i, conn := range conns {
		raw, err := conn.SyscallConn()
		if err != nil {
			return err
		}
		hungUp := false
		err = raw.Control(func(fd uintptr) {
			// Nothing to read is EAGAIN; the end of the stream is zero bytes without an error.
			n, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
			hungUp = n == 0 && err == nil
		})
		if err != nil {
			return fmt.Errorf("connection %d: %w", i+1, err)
		}
		if hungUp {
			return fmt.Errorf("connection %d: the server hung up", i+1)
		}
	}
	return nil
}
