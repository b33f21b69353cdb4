package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// rangesLua asks for ranges of 64 kB at random offsets of a 200 MB file. The requests are made before
// the load begins, the same ones for every server.
const rangesLua = `
local requests = {}
local next = 0
function init(args)
	math.randomseed(1)
	for i = 1, 1000 do
		local from = math.random(0, 200*1024*1024 - 65536)
		requests[i] = wrk.format("GET", nil, {["Range"] = "bytes=" .. from .. "-" .. from + 65535})
	end
end
function request()
	next = next % #requests + 1
	return requests[next]
end
`

// A wrkLoad is a load that wrk puts on both servers.
type wrkLoad struct {
	path        string
	connections int
	script      string // Lua, "" for none
}

// wrkPair adds f with the requests per second of both servers under a load, and the slowest hundredth of
// each in its note.
func (b *bench) wrkPair(f figure, d duel, w wrkLoad) {
	args := []string{"-t2", fmt.Sprintf("-c%d", w.connections), fmt.Sprintf("-d%.0fs", b.load.Seconds()), "--timeout", "10s", "--latency"}
	f.command = "wrk " + strings.Join(args, " ")
	if w.script != "" {
		args = append(args, "-s", w.script)
		f.command += " -s " + filepath.Base(w.script)
	}
	f.command += " http://SERVER" + w.path
	f.unit = "req/s"
	if f.against == "" {
		f.against = "nginx"
	}
	var p99 [2]sample
	side := func(p *process, p99 *sample) side {
		return func() float64 {
			out, err := exec.CommandContext(b.ctx, "wrk", append(args, p.url(w.path))...).CombinedOutput()
			if err != nil {
				b.fatalf("wrk: %w: %s", err, out)
			}
			r, err := parseWrk(string(out))
			b.check(err)
			*p99 = append(*p99, float64(r.p99)/float64(time.Millisecond))
			return r.rate
		}
	}
	f = b.pair(f, side(d.ours, &p99[0]), side(d.nginx, &p99[1]))
	f.note = fmt.Sprintf("p99 %s/%s ms", number(p99[0].median()), number(p99[1].median()))
	b.add(f)
}

// A wrkResult is what wrk found.
type wrkResult struct {
	rate float64 // requests per second
	p99  time.Duration
}

var errWrk = errors.New("wrk")

var wrkFigures = regexp.MustCompile(`(?s)\n +99%  +(\S+) *\n.*\nRequests/sec: +(\S+) *\n`)

// parseWrk reads the output of wrk --latency. A run with errors or with answers other than 2xx and 3xx
// is refused.
func parseWrk(out string) (wrkResult, error) {
	for _, bad := range []string{"Socket errors:", "Non-2xx"} {
		if i := strings.Index(out, bad); i >= 0 {
			first, _, _ := strings.Cut(out[i:], "\n")
			return wrkResult{}, fmt.Errorf("%w: %s", errWrk, first)
		}
	}
	m := wrkFigures.FindStringSubmatch(out)
	if m == nil {
		return wrkResult{}, fmt.Errorf("%w: no rate in %q", errWrk, out)
	}
	p99, err := time.ParseDuration(m[1])
	if err != nil {
		return wrkResult{}, fmt.Errorf("%w: latency: %w", errWrk, err)
	}
	rate, err := strconv.ParseFloat(m[2], 64)
	if err != nil {
		return wrkResult{}, fmt.Errorf("%w: rate: %w", errWrk, err)
	}
	return wrkResult{rate, p99}, nil
}

// discardRate downloads path from addr over n connections, again and again, for the given time and
// returns MB of archives per second. The bytes are thrown away in the kernel, so that the client
// costs little beside the server.
func discardRate(ctx context.Context, addr, path string, n int, d time.Duration) (float64, error) {
	conns := make([]*net.TCPConn, n)
	defer closeAll(conns)
	for i := range conns {
		var err error
		if conns[i], err = dial(ctx, addr, i, 0); err != nil {
			return 0, err
		}
	}
	got := make([]int64, n)
	begin := time.Now()
	var g errgroup.Group
	for i, conn := range conns {
		g.Go(func() error {
			err := conn.SetDeadline(begin.Add(d))
			for err == nil {
				var length, came int64
				if length, err = ask(conn, path); err == nil {
					came, err = discard(conn, length)
				}
				got[i] += came
			}
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return nil
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	var sum int64
	for _, n := range got {
		sum += n
	}
	return float64(sum) / mB / time.Since(begin).Seconds(), nil
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
		runtime.Gosched() // a stream that never runs dry must not starve the others
	}
	return done, nil
}

// ask requests path and reads the head of the answer, which must be 200. It returns how many bytes of
// the body are to come: a few may have come with the head.
func ask(conn net.Conn, path string) (int64, error) {
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, conn.RemoteAddr()); err != nil {
		return 0, err
	}
	r := bufio.NewReaderSize(conn, 4*kB)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode != http.StatusOK || resp.ContentLength < 0 {
		return 0, fmt.Errorf("get %s: %s, Content-Length %d", path, resp.Status, resp.ContentLength)
	}
	return resp.ContentLength - int64(r.Buffered()), nil
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
		d.ControlContext = func(_ context.Context, _, _ string, c syscall.RawConn) (err error) {
			controlErr := c.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, window)
			})
			return errors.Join(controlErr, err)
		}
	}
	conn, err := d.DialContext(ctx, "tcp4", addr)
	if err != nil {
		return nil, fmt.Errorf("connection %d: %w", i+1, err)
	}
	return conn.(*net.TCPConn), nil
}

// closeAll closes connections over which nothing more is expected; nil ones were never opened.
func closeAll(conns []*net.TCPConn) {
	for _, c := range conns {
		if c != nil {
			c.Close()
		}
	}
}

// hold opens 10,000 connections, has each visited, and returns the memory of the server while all are open.
func (b *bench) hold(p *process, window int, visit func(*net.TCPConn) error) memory {
	conns := make([]*net.TCPConn, 10000)
	defer closeAll(conns)
	var g errgroup.Group
	g.SetLimit(64)
	for i := range conns {
		g.Go(func() (err error) {
			if conns[i], err = dial(b.ctx, p.addr, i, window); err != nil {
				return err
			}
			if err := conns[i].SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
				return err
			}
			return visit(conns[i])
		})
	}
	b.check(g.Wait())
	time.Sleep(time.Second) // for the server to come to rest
	for i, conn := range conns {
		raw, err := conn.SyscallConn()
		b.check(err)
		b.check(raw.Control(func(fd uintptr) {
			// Nothing to read is EAGAIN; the end of the stream is zero bytes without an error.
			n, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
			if n == 0 && err == nil {
				b.fatalf("connection %d: the server hung up", i+1)
			}
		}))
	}
	m, err := p.memory()
	b.check(err)
	return m
}
