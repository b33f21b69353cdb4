package router

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"
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
		c := connect(t, w.to.plain)
		if w.secure {
			c = tls.Client(connect(t, w.to.addr), &tls.Config{RootCAs: w.to.roots, ServerName: "127.0.0.1"})
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

// A steady is a body that comes at 1.6 MB/s.
type steady struct {
	tick *time.Ticker
	left int
}

func (s *steady) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	<-s.tick.C
	n := min(len(p), s.left, 32<<10)
	s.left -= n
	for i := range p[:n] {
		p[i] = ' '
	}
	return n, nil
}

func (s *steady) Close() error { s.tick.Stop(); return nil }

// Long lists arrive beside a hundred callers who announce as much and send nothing.
func TestUploadsArriveBesideSilentOnes(t *testing.T) {
	inEachWay(t, Config{BodyWindow: time.Hour}, func(t *testing.T, w way) {
		w.to.server.bodies.uploads.first = time.Hour // else they would have to come again and again
		for range 100 {
			w.begin(t, 3<<20)
		}
		w.client = w.to.client(t, w.major) // HTTP/2 takes so many streams a connection, and those are taken
		arrived := make(chan error)
		for range 3 {
			go func() {
				status, err := w.put(t.Context(), &steady{time.NewTicker(20 * time.Millisecond), 3_000_000}, 3_000_000)
				if err == nil && status != 200 {
					err = fmt.Errorf("status %d", status)
				}
				arrived <- err
			}()
		}
		for range 3 {
			if err := <-arrived; err != nil {
				t.Error(err)
			}
		}
	})
}

// Uploads that stand still lose their memory to those that come. The rest goes on.
func TestSlowUploadsMakeWay(t *testing.T) {
	inEachWay(t, Config{BodyWindow: time.Hour}, func(t *testing.T, w way) {
		const length = 2_900_000
		var answers []func() (int, error)
		for range (uploadMemory - uploadReserve) / length {
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
			return l.total
		}
		await(t, "the bodies come", func() bool { return holds() >= int64(len(answers)*length) })
		if status, err := w.put(t.Context(), bytes.NewReader(make([]byte, 4<<20)), 4<<20); status != 200 || err != nil {
			t.Errorf("%d, %v", status, err)
		}
		await(t, "one gives its memory back", func() bool { return holds() <= int64(len(answers)-1)*(length+uploadCost) })
		if holds() == 0 {
			t.Error("none goes on")
		}
	})
}

// deadlines is a ResponseWriter that notes whether it was told to end reading.
type deadlines struct {
	http.ResponseWriter
	ended bool
}

func (d *deadlines) SetReadDeadline(at time.Time) error {
	d.ended = at.Before(time.Now())
	return nil
}

// An address that holds more than its share makes way before all others, however fast it sends; among the
// others it is the slowest.
func TestWhoMakesWay(t *testing.T) {
	t.Parallel()
	now := time.Now()
	one, other := addressOf(netip.MustParseAddr("192.0.2.1")), addressOf(netip.MustParseAddr("2001:db8::1"))
	type state struct {
		from  address
		held  int64
		came  int // bytes in the last second
		ago   time.Duration
		whole bool
		size  int64
	}
	const large = uploadShare + 1
	for label, held := range map[string][]state{ // the first is to make way
		"the slowest":           {{from: one, came: 1000}, {from: other, came: 2000}, {from: one, came: 3000}},
		"what stands still":     {{from: one, came: 9 << 20, ago: 5 * time.Second}, {from: other, came: 50_000}},
		"of the greedy address": {{from: other, held: large, came: 5000}, {from: other, came: 6000}, {from: one, came: 1000}},
		"what has just begun":   {{from: one, came: 1, size: 9 << 20}, {from: other, came: 12_000, ago: 5 * time.Second, size: 9 << 20}},
		"not what is whole":     {{from: one, came: 2000}, {from: one, came: 1000, whole: true}},
	} {
		l := newUploads()
		var all []*upload
		for _, s := range held {
			u := &upload{list: l, from: s.from, size: s.size, rate: fastEnough, control: http.NewResponseController(&deadlines{})}
			u.last = now.Add(-time.Second - s.ago)
			u.arrived(s.came, now.Add(-s.ago))
			u.whole = s.whole
			l.coming[u] = struct{}{}
			l.hold(u, s.held)
			all = append(all, u)
		}
		if got := l.slowest(now); got != all[0] {
			t.Errorf("%s: %+v makes way", label, got)
		}
		l.end(all[0])
		if got := l.slowest(now); got == all[0] {
			t.Errorf("%s: it makes way twice", label)
		}
	}
}

// What large uploads leave is enough for small ones, and everything is given back.
func TestSmallUploadsHaveTheirMemory(t *testing.T) {
	t.Parallel()
	l := newUploads()
	end := &deadlines{}
	make := func(size int64) *upload {
		return &upload{list: l, size: size, control: http.NewResponseController(end), rate: fastEnough, last: time.Now()}
	}
	large := make(5 << 20)
	if err := l.grow(large, uploadMemory-uploadReserve); err != nil {
		t.Fatal(err)
	}
	large.whole = true
	if err := l.grow(make(smallUpload+1), 1); !errors.Is(err, errBusy) {
		t.Errorf("a large one: %v", err)
	}
	small := make(smallUpload)
	if err := l.grow(small, uploadReserve); err != nil {
		t.Errorf("a small one: %v", err)
	}
	if err := l.grow(make(1), 1); err != nil || !end.ended {
		t.Errorf("a second one: %v, %v", err, end.ended)
	}
	if err := l.grow(small, 1); !errors.Is(err, errMadeWay) {
		t.Errorf("what made way goes on: %v", err)
	}
	for u := range l.coming {
		l.remove(u)
	}
	if l.total != 0 || len(l.byFrom) != 0 {
		t.Errorf("%d bytes are held, by %v", l.total, l.byFrom)
	}
}

func TestClientOf(t *testing.T) {
	t.Parallel()
	trusted := []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, test := range []struct{ remote, forwarded, want string }{
		{"192.0.2.1:5", "", "192.0.2.1/32"},
		{"[2001:db8:1:2:3::4]:5", "", "2001:db8:1:2::/64"},
		{"[::ffff:192.0.2.1]:5", "", "192.0.2.1/32"},
		{"[fe80::1%eth0]:5", "", "fe80::/64"},
		{"192.0.2.1:5", "198.51.100.1", "192.0.2.1/32"}, // nobody asked it
		{"127.0.0.1:5", "", "127.0.0.1/32"},
		{"127.0.0.1:5", "198.51.100.1", "198.51.100.1/32"},
		{"127.0.0.1:5", "203.0.113.9, 198.51.100.1", "198.51.100.1/32"}, // the client wrote the first
		{"127.0.0.1:5", "203.0.113.9,198.51.100.1 , 10.1.2.3", "198.51.100.1/32"},
		{"127.0.0.1:5", "198.51.100.1|10.1.2.3", "198.51.100.1/32"}, // two fields
		{"127.0.0.1:5", "10.1.2.3", "10.1.2.3/32"},
		{"127.0.0.1:5", "unknown, 10.1.2.3", "10.1.2.3/32"},
		{"[fd00::1]:5", "[2001:db8::1]:7", "2001:db8::/64"},
		{"[::ffff:127.0.0.1]:5", "198.51.100.1:99", "198.51.100.1/32"},
		{"@", "198.51.100.1", "invalid Prefix"},
	} {
		r := &http.Request{RemoteAddr: test.remote, Header: http.Header{}}
		if test.forwarded != "" {
			r.Header["X-Forwarded-For"] = strings.Split(test.forwarded, "|")
		}
		if got := netip.Prefix(clientOf(r, trusted)).String(); got != test.want {
			t.Errorf("%s, %q: %s, want %s", test.remote, test.forwarded, got, test.want)
		}
	}
}
