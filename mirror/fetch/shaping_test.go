package fetch

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/openpowerquality/box-update-server/update"
)

// shaper is a proxy between a client and an upstream that delays, limits, cuts, and is down at times. After every third
// full connection it is down: it cuts all others, and refuses so many connections.
type shaper struct {
	listener net.Listener
	to       string
	delay    time.Duration // before each answer begins
	rate     *rate.Limiter // of all answers, bytes per second
	cut      int           // each connection is cut after so many bytes
	refuse   int           // connections, while it is down
	wg       sync.WaitGroup

	mu   sync.Mutex
	full int // connections that were cut after so many bytes
	cuts int // connections that were cut, for either reason
	down int // connections that are yet to be refused
	sent int64
	open map[net.Conn]bool
}

const shaperBurst = 32 << 10

// start listens.
func (s *shaper) start(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.listener, s.open = l, map[net.Conn]bool{}
	t.Cleanup(s.close)
	s.wg.Go(s.accept)
}

func (s *shaper) url() string { return "http://" + s.listener.Addr().String() }

func (s *shaper) close() {
	s.listener.Close()
	s.mu.Lock()
	for c := range s.open {
		c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

func (s *shaper) accept() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.wg.Go(func() { s.pass(c) })
	}
}

// accepts reports whether a new connection may stay.
func (s *shaper) accepts() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down == 0 {
		return true
	}
	s.down--
	return false
}

func (s *shaper) hold(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[c] = true
}

func (s *shaper) drop(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
	c.Close()
}

func (s *shaper) pass(in net.Conn) {
	s.hold(in)
	defer s.drop(in)
	if !s.accepts() {
		return
	}
	out, err := net.Dial("tcp", s.to)
	if err != nil {
		return
	}
	s.hold(out)
	defer s.drop(out)
	s.wg.Go(func() {
		defer out.Close()
		copyAll(out, in)
	})
	<-time.After(s.delay)
	s.answer(in, out)
}

func copyAll(to, from net.Conn) {
	buf := make([]byte, 4096)
	for {
		n, err := from.Read(buf)
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

// answer passes what the upstream answers, until the cut.
func (s *shaper) answer(in, out net.Conn) {
	buf := make([]byte, shaperBurst)
	for n := 0; n < s.cut; {
		got, err := out.Read(buf[:min(len(buf), s.cut-n)])
		if err != nil {
			return
		}
		s.rate.WaitN(context.Background(), got) // within the burst, it never fails
		if _, err := in.Write(buf[:got]); err != nil {
			return
		}
		n += got
		if s.count(int64(got), n == s.cut) {
			return
		}
	}
}

// count counts what was sent over a connection, which is full or not, and reports whether it has to be cut.
func (s *shaper) count(n int64, full bool) (cut bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent += n
	if cut = full || s.down > 0; cut {
		s.cuts++
	}
	if full {
		if s.full++; s.full%3 == 0 {
			s.down = s.refuse
		}
	}
	return cut
}

// A link with 300 ms of delay and 1 Mbit/s that is cut every few seconds and down for whole minutes, two
// hundred times as fast. A connection lasts for less than a block. Nothing but the shaper cuts it, however slow the
// machine is.
func TestShapedLink(t *testing.T) {
	w := newWorld(t, 9*mib, 6*mib+1, 5*mib, 100_000)
	sinks := map[string]*memory{}
	for _, a := range w.archives {
		sinks[a.path()] = sinkFor(a)
	}
	var again []string
	var mu sync.Mutex
	honest := w.handler()
	up := server(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		first := 0
		fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &first)
		if sinks[r.URL.Path].has(first / update.BlockSize) {
			mu.Lock()
			again = append(again, r.URL.Path+" "+r.Header.Get("Range"))
			mu.Unlock()
		}
		honest.ServeHTTP(rw, r)
	}))
	s := &shaper{
		to:    strings.TrimPrefix(up.URL, "http://"),
		delay: 2 * time.Millisecond, rate: rate.NewLimiter(25<<20, shaperBurst), cut: 3 * mib, refuse: 5,
	}
	s.start(t)
	cfg := quick(s.url())
	cfg.Patience, cfg.StallWindow = time.Hour, time.Hour
	c, log := client(t, cfg)

	var g errgroup.Group
	for _, a := range w.archives {
		g.Go(func() error { return c.download(t.Context(), a.rel, a.blocks, sinks[a.path()], nil) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	var total int64
	for _, a := range w.archives {
		sinks[a.path()].check(t)
		total += a.rel.Length()
	}
	if len(again) > 0 {
		t.Errorf("fetched again: %q", again)
	}
	s.close()
	if s.cuts < 6 {
		t.Errorf("expected at least 6 cuts, got %d\n%v", s.cuts, log)
	}
	// What was under way in a connection that is cut comes again: here, a part of a block.
	if most := total + int64(s.cuts+1)*mib; s.sent > most {
		t.Errorf("%d bytes were sent for %d of archives, expected at most %d", s.sent, total, most)
	}
	t.Logf("%d cuts, %d bytes sent for %d", s.cuts, s.sent, total)
}
