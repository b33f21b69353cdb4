package router

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/router/front"
)

const uploadPath = "/publish/targets/1"

// A way is how to reach a server.
type way struct {
	to     secured
	url    string
	secure bool
	client *http.Client
	major  int // version of HTTP
}

// inEachWay runs a test for HTTP/1, with TLS and without, and HTTP/2, side by side.
func inEachWay(t *testing.T, c Config, test func(t *testing.T, w way)) {
	for _, w := range []way{{major: 1}, {major: 1, secure: true}, {major: 2, secure: true}} {
		t.Run(fmt.Sprintf("HTTP/%d, TLS %v", w.major, w.secure), func(t *testing.T) {
			t.Parallel()
			c := c
			c.Source, c.Publisher = newFake(t), newFakePublisher()
			w.to = startTLS(t, c)
			w.client = w.to.client(t, w.major)
			if w.url = "http://" + w.to.plain + uploadPath; w.secure {
				w.url = "https://" + w.to.addr + uploadPath
			}
			test(t, w)
		})
	}
}

// begin begins a PUT of so many bytes, on a connection of its own with HTTP/1. What of the body is to be
// sent is written to body; answer returns the status once it is there.
func (w way) begin(t *testing.T, length int64) (body io.WriteCloser, answer func() (int, error)) {
	t.Helper()
	if w.major == 1 {
		c := testworld.Dial(t, w.to.plain)
		if w.secure {
			c = tls.Client(testworld.Dial(t, w.to.addr), &tls.Config{RootCAs: w.to.roots, ServerName: "127.0.0.1"})
		}
		if _, err := fmt.Fprintf(c, "PUT %s HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n", uploadPath, length); err != nil {
			t.Fatal(err)
		}
		return c, func() (int, error) {
			defer func() { _ = c.Close() }()
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				return 0, err
			}
			return resp.StatusCode, nil
		}
	}
	r, pipe := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(func() { cancel(); _ = r.Close() })
	got := make(chan func() (int, error), 1)
	go func() {
		status, err := w.put(ctx, r, length)
		_ = r.Close() // never fails
		got <- func() (int, error) { return status, err }
	}()
	return pipe, func() (int, error) { return (<-got)() }
}

func (w way) put(ctx context.Context, body io.Reader, length int64) (int, error) {
	req, err := http.NewRequestWithContext(ctx, "PUT", w.url, body)
	if err != nil {
		return 0, err
	}
	req.ContentLength = length
	resp, err := w.client.Do(req)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

// A body of which nothing comes is gone after a second, long before its window ends.
func TestSilentUploadIsCut(t *testing.T) {
	inEachWay(t, Config{BodyWindow: time.Hour}, func(t *testing.T, w way) {
		_, answer := w.begin(t, 3<<20)
		if status, err := answer(); status != 408 || err != nil {
			t.Errorf("%d, %v", status, err)
		}
	})
}

// A bodySender sends a body over a pipe: some bytes at once, and then as many each second.
type bodySender struct {
	size, first, perSecond int
}

// upload has a router read the body of somebody at that address.
func (s bodySender) upload(rt *router, from front.Address) error {
	client, server := net.Pipe()
	var sending sync.WaitGroup
	defer sending.Wait()
	defer func() { _ = client.Close(); _ = server.Close() }() // never fail
	sending.Go(func() {
		wait := max(100*time.Millisecond, time.Second/time.Duration(max(1, s.perSecond)))
		n := s.first
		for left := s.size; ; n = int(time.Duration(s.perSecond) * wait / time.Second) {
			n = min(n, left)
			left -= n
			if _, err := client.Write(make([]byte, n)); err != nil || left == 0 || s.perSecond == 0 {
				return
			}
			time.Sleep(wait)
		}
	})
	u := newUpload(rt.bodies.uploads, from, int64(s.size), server, http.NewResponseController(&deadlines{conn: server}))
	defer u.list.remove(u)
	_, err := rt.receive(u)
	return err
}

// An upload that was ended holds nothing but the piece that it reads into, even before it notices its end.
func TestEndedUploadHoldsOnePiece(t *testing.T) {
	l := newUploads()
	client, server := net.Pipe()
	defer func() { _ = client.Close(); _ = server.Close() }() // never fail
	u := newUpload(l, front.Address{}, 3_000_000, server, http.NewResponseController(&deadlines{conn: server}))
	for range 4 {
		if _, err := u.addPiece(uploadPiece); err != nil {
			t.Fatal(err)
		}
	}
	l.mu.Lock()
	last := u.pieces[3]
	u.end()
	if len(u.pieces) != 1 || u.pieces[0] != last {
		t.Errorf("it holds %d pieces", len(u.pieces))
	}
	l.mu.Unlock()
	if _, err := u.addPiece(uploadPiece); !errors.Is(err, errDisplaced) {
		t.Errorf("another piece: %v", err)
	}
	go func() { _, _ = client.Write([]byte{1}) }() // fails once the pipe is closed
	if n, err := u.Read(make([]byte, 1)); n != 0 || !errors.Is(err, errDisplaced) {
		t.Errorf("read %d bytes: %v", n, err)
	}
	l.remove(u)
	if len(u.pieces) != 0 {
		t.Error("it holds a piece after its request")
	}
}

// Long lists arrive beside strangers who keep a hundred connections, each of which is opened again once it is cut.
func TestUploadsArriveBesideStrangers(t *testing.T) {
	t.Parallel()
	mine, theirs := front.AddressOf(netip.MustParseAddr("192.0.2.1")), front.AddressOf(netip.MustParseAddr("192.0.2.2"))
	const long = 3_000_000
	for label, stranger := range map[string]bodySender{
		"nothing":                   {size: long},
		"a byte":                    {size: long, first: 1},
		"a byte a second":           {size: long, first: 1, perSecond: 1},
		"little":                    {size: long, first: 20, perSecond: 20},
		"a first piece":             {size: long, first: firstPiece},
		"just as fast as they must": {size: long, perSecond: 4100},
		"a window's part at once":   {size: long, first: 80_001},
		"four times as fast":        {size: long, perSecond: 16_000},
		"small bodies":              {size: smallUpload, perSecond: 4100},
	} {
		for _, from := range []front.Address{mine, theirs} {
			t.Run(fmt.Sprintf("%s, the same address %v", label, from == mine), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					config, err := Config{Source: newFake(t)}.withDefaults()
					if err != nil {
						t.Fatal(err)
					}
					rt := &router{config: config, bodies: newBodies()}
					ctx, stop := context.WithCancel(t.Context())
					var strangers, honest sync.WaitGroup
					for range 100 {
						strangers.Go(func() {
							for ctx.Err() == nil {
								time.Sleep(20 * time.Millisecond) // a round trip
								_ = stranger.upload(rt, from)     // it is cut
							}
						})
					}
					time.Sleep(10 * time.Second)
					for range 4 {
						honest.Go(func() {
							if err := (bodySender{size: long, perSecond: 400_000}).upload(rt, mine); err != nil {
								t.Error(err)
							}
						})
					}
					honest.Wait()
					stop()
					strangers.Wait()
				})
			})
		}
	}
}

// Uploads that stand still lose their memory to those that come. The rest goes on.
func TestSlowUploadsMakeWay(t *testing.T) {
	inEachWay(t, Config{BodyWindow: time.Hour}, func(t *testing.T, w way) {
		const length = 2_900_000
		var answers []func() (int, error)
		for range largeMemory / (length + uploadCost + uploadPiece) {
			body, answer := w.begin(t, length)
			if _, err := body.Write(make([]byte, length-1)); err != nil {
				t.Fatal(err)
			}
			answers = append(answers, answer)
		}
		l := w.to.server.bodies.uploads
		holds := func() int64 {
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.large.total
		}
		testworld.Await(t, "the bodies come", func() bool { return holds() >= int64(len(answers)*length) })
		testworld.Await(t, "a new one arrives", func() bool { // at first those that came fast until now count as fast
			status, err := w.put(t.Context(), bytes.NewReader(make([]byte, 4<<20)), 4<<20)
			return status == 200 && err == nil
		})
		testworld.Await(t, "one gives its memory back", func() bool { return holds() <= int64(len(answers)-1)*(length+uploadCost) })
		if holds() == 0 {
			t.Error("none goes on")
		}
	})
}

// deadlines is a ResponseWriter that notes whether it was told to end reading.
type deadlines struct {
	http.ResponseWriter
	conn  net.Conn // of the request; nil: none
	ended bool
}

func (d *deadlines) SetReadDeadline(at time.Time) error {
	d.ended = at.Before(time.Now())
	if d.conn == nil {
		return nil
	}
	return d.conn.SetReadDeadline(at)
}

// An address that holds more than its share makes way before all others, however fast it sends; among the
// others it is the slowest.
func TestWhoMakesWay(t *testing.T) {
	t.Parallel()
	now := time.Now()
	one, other := front.AddressOf(netip.MustParseAddr("192.0.2.1")), front.AddressOf(netip.MustParseAddr("2001:db8::1"))
	type state struct {
		from  front.Address
		held  int64
		came  int // bytes in the last second
		ago   time.Duration
		whole bool
	}
	const greedy = largeMemory/sharesOfMemory + 1
	for label, held := range map[string][]state{ // the first is to make way
		"the slowest":           {{from: one, came: 1000}, {from: other, came: 2000}, {from: one, came: 3000}},
		"what stands still":     {{from: one, came: 9 << 20, ago: 5 * time.Second}, {from: other, came: 50_000}},
		"of the greedy address": {{from: other, held: greedy, came: 5000}, {from: other, came: 6000}, {from: one, came: 1000}},
		"not what is whole":     {{from: one, came: 2000}, {from: one, came: 1000, whole: true}},
	} {
		l := newUploads()
		var all []*upload
		for _, s := range held {
			u := newUpload(l, s.from, 9<<20, nil, http.NewResponseController(&deadlines{}))
			u.last = now.Add(-time.Second - s.ago)
			u.arrived(s.came, now.Add(-s.ago))
			u.whole = s.whole
			u.setMemory(&l.large, max(1, s.held))
			all = append(all, u)
		}
		if got := l.large.slowest(now); got != all[0] {
			t.Errorf("%s: %+v makes way", label, got)
		}
		all[0].end()
		if got := l.large.slowest(now); got == all[0] {
			t.Errorf("%s: it makes way twice", label)
		}
	}
}

// Large uploads leave their memory to small ones and to the first pieces of others, and everything is given back.
func TestSmallUploadsHaveTheirMemory(t *testing.T) {
	t.Parallel()
	l := newUploads()
	end := &deadlines{}
	begin := func(size int64) *upload {
		return newUpload(l, front.Address{}, size, nil, http.NewResponseController(end))
	}
	large, later, small, smaller := begin(5<<20), begin(smallUpload+1), begin(smallUpload), begin(1)
	for _, u := range []*upload{large, later} {
		if err := l.grow(u, uploadCost); err != nil || u.pool != &l.small {
			t.Errorf("a first piece: %v", err)
		}
	}
	if err := l.grow(large, largeMemory-uploadCost); err != nil || l.small.total != uploadCost {
		t.Errorf("the rest: %v, %d bytes of the memory of small ones are held", err, l.small.total)
	}
	large.whole = true
	if err := l.grow(later, 1); !errors.Is(err, errBusy) {
		t.Errorf("another rest: %v", err)
	}
	if err := l.grow(small, smallMemory); err != nil {
		t.Errorf("a small one: %v", err)
	}
	if err := l.grow(smaller, 1); err != nil || !end.ended {
		t.Errorf("a second one: %v, %v", err, end.ended)
	}
	if err := l.grow(small, 1); !errors.Is(err, errDisplaced) {
		t.Errorf("what made way goes on: %v", err)
	}
	for _, u := range []*upload{large, later, small, smaller} {
		l.remove(u)
	}
	for _, p := range []*pool{&l.small, &l.large} {
		if p.total != 0 || len(p.byFrom) != 0 || len(p.uploads) != 0 {
			t.Errorf("%d bytes are held, by %v", p.total, p.byFrom)
		}
	}
}
