package router

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
)

func TestMaxDownloads(t *testing.T) {
	f := newFake(t)
	f.add(t, newName, make([]byte, 16<<20), true)
	c := Config{Source: f, MaxDownloads: 2}
	s, err := NewServer(c)
	if err != nil {
		t.Fatal(err)
	}
	addr, path := serveOn(t, s), "/update/"+newName
	first := download(t, addr, path)
	c.MaxBandwidth = 1 << 30
	if err := s.Reload(c); err != nil {
		t.Fatal(err)
	}
	download(t, addr, path)
	g := get(t, addr, path)
	g.hold(t, 503, map[string]string{"Retry-After": "10", "Cache-Control": "no-store", "Content-Type": "text/plain"})
	if g.body != "Too many downloads at once." || g.header["Etag"] != nil || g.header["Content-Disposition"] != nil {
		t.Errorf("got %q with %v", g.body, g.header)
	}
	ask(t, addr, "HEAD "+path+" HTTP/1.1").hold(t, 200, nil)
	get(t, addr, "/latest").hold(t, 303, nil)
	if _, err := io.CopyN(io.Discard, first, 16<<20); err != nil {
		t.Fatal(err)
	}
	testworld.Await(t, "there is room again", func() bool { return get(t, addr, path, "Range: bytes=0-9").status == 206 })
	c.MaxDownloads = 0
	if err := s.Reload(c); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		download(t, addr, path)
	}
}

// Downloads keep to the bandwidth together, get the same of it, and nobody waits for who is gone.
func TestBandwidthIsShared(t *testing.T) {
	for name, c := range map[string]struct{ rate, downloads int64 }{
		"little for many": {100_000, 50},
		"one":             {1 << 20, 1},
		"much":            {1 << 30, 3},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const lasting = 20 * time.Second
				l := newLimits(Config{MaxBandwidth: c.rate})
				got := make([]int64, c.downloads)
				var all sync.WaitGroup
				var start []func()
				end := time.Now().Add(lasting)
				for i := range got {
					r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
					if err := l.enter(r); err != nil {
						t.Fatal(err)
					}
					defer l.leave(r)
					p := l.pace(httptest.NewRecorder(), r)
					start = append(start, func() {
						for {
							n, err := p.next(1 << 40)
							if err != nil || !time.Now().Before(end) {
								return
							}
							p.spend(n)
							got[i] += n
						}
					})
				}
				for _, download := range start {
					all.Go(download)
				}
				all.Wait()
				sum, most := int64(0), int64(0)
				for _, n := range got {
					sum += n
					most = max(most, n)
				}
				if want := c.rate * int64(lasting/time.Second); sum < want*95/100 || sum > want*105/100 {
					t.Errorf("%d bytes were sent, want about %d", sum, want)
				}
				if most > sum/c.downloads*105/100+c.rate/4 { // the first to come gets what was saved up
					t.Errorf("one of %d got %d bytes of %d", c.downloads, most, sum)
				}
			})
		})
	}
}

// What a full connection did not take of a piece goes out without another wait.
func TestGrantedPieceIsUsedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimits(Config{MaxBandwidth: 40_000})
		p := l.pace(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
		for begun := time.Now(); time.Since(begun) < 10*time.Second; {
			n, err := p.next(1 << 20)
			if err != nil {
				t.Fatal(err)
			}
			before := time.Now()
			p.spend(n / 3)
			if rest, err := p.next(1 << 20); err != nil || rest != n-n/3 || !time.Now().Equal(before) {
				t.Fatalf("%d of %d were taken, then got %d after %v, %v", n/3, n, rest, time.Since(before), err)
			}
			p.spend(n - n/3)
		}
	})
}

func TestBandwidthOfDownloads(t *testing.T) {
	f := newFake(t)
	body := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	f.add(t, newName, body, true)
	const perSecond = 2 << 20
	addr := start(t, Config{Source: f, MaxBandwidth: perSecond})
	begun := time.Now()
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			if g := get(t, addr, "/update/"+newName); g.body != string(body) {
				t.Errorf("got %d bytes, status %d", len(g.body), g.status)
			}
		})
	}
	all.Wait()
	least := time.Duration(float64(3*len(body)-perSecond/4) / perSecond * float64(time.Second))
	if took := time.Since(begun); took < least*95/100 {
		t.Errorf("took %v, want at least %v", took, least)
	}
}

func TestLimitsRefused(t *testing.T) {
	for _, c := range []Config{{MaxDownloads: -1}, {MaxBandwidth: -1}, {HSTS: -1}} {
		c.Source = newFake(t)
		if _, err := NewServer(c); err == nil || errors.Is(err, errCrowded) {
			t.Errorf("%+v: got %v", c, err)
		}
	}
}

// A request for many ranges is answered with the whole archive, once.
func TestManyRanges(t *testing.T) {
	f := newFake(t)
	body := strings.Repeat("0123456789", 1000)
	f.add(t, newName, []byte(body), true)
	addr := start(t, Config{Source: f})
	for n, status := range map[int]int{2: 206, maxRanges: 206, maxRanges + 1: 200, 1000: 200} {
		g := get(t, addr, "/update/"+newName, "Range: bytes=0-0"+strings.Repeat(",2-2", n-1))
		if g.hold(t, status, nil); status == 200 && g.body != body {
			t.Errorf("%d ranges: %d bytes", n, len(g.body))
		}
	}
}

// Nothing follows a chunked request, whose end others may see elsewhere.
func TestChunkedRequestsEndTheirConnection(t *testing.T) {
	f := newFake(t)
	f.add(t, newName, []byte("0123456789"), true)
	addr := start(t, Config{Source: f, Publisher: newFakePublisher()})
	const body = "0\r\n\r\nGET /livez HTTP/1.1\r\nHost: test\r\n\r\n"
	for line, status := range map[string]int{
		"GET /version": 400, "HEAD /version": 400, "GET /update/" + newName: 400, "GET /nothing": 404, "POST /version": 405,
		"PUT /publish/targets/1": 411, "GET /publish/": 411,
	} {
		for _, length := range []string{"", "Content-Length: 5\r\n", "Content-Length: 42\r\n"} {
			c := testworld.Dial(t, addr)
			if _, err := io.WriteString(c, line+" HTTP/1.1\r\nHost: test\r\n"+length+"Transfer-Encoding: chunked\r\n\r\n"+body); err != nil {
				t.Fatal(err)
			}
			r := bufio.NewReader(c)
			method, _, _ := strings.Cut(line, " ")
			answerOn(t, r, method).hold(t, status, nil)
			if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
				t.Errorf("%s, %q: then %q, %v", line, length, rest, err)
			}
		}
	}
}
