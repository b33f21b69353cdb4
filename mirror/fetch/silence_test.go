package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
)

// network is a transport without sockets: each host answers as it is told, and one that isn't listed accepts and
// never answers.
type network struct {
	c     *Client
	hosts map[string]http.Handler
	slow  map[string]time.Duration // what a byte of a body takes to come, of those hosts
	mu    sync.Mutex
	asked []string // host and path, with the time since start
	start time.Time
}

// connect makes c talk to the network.
func (n *network) connect(c *Client) *network {
	n.c, n.start = c, time.Now()
	c.http.Transport = n
	return n
}

func (n *network) RoundTrip(r *http.Request) (*http.Response, error) {
	n.mu.Lock()
	n.asked = append(n.asked, fmt.Sprintf("%s %v", r.URL.Host, time.Since(n.start)))
	n.mu.Unlock()
	h := n.hosts[r.URL.Host]
	if h == nil {
		select {
		case <-r.Context().Done():
			return nil, context.Cause(r.Context())
		case <-time.After(n.c.c.Silence):
			return nil, errors.New("timeout awaiting response headers")
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	resp := w.Result()
	resp.Body = io.NopCloser(&dripping{resp.Body, r.Context(), n.slow[r.URL.Host]})
	return resp, nil
}

// dripping is a body that comes byte by byte, where each takes a time.
type dripping struct {
	from io.Reader
	ctx  context.Context
	each time.Duration
}

func (d *dripping) Read(p []byte) (int, error) {
	if d.each == 0 {
		return d.from.Read(p)
	}
	select {
	case <-d.ctx.Done():
		return 0, context.Cause(d.ctx)
	case <-time.After(d.each):
		return d.from.Read(p[:1])
	}
}

func trusting(t *testing.T, w *world) *trust.State {
	t.Helper()
	state, err := trust.Open(trust.Config{Dir: t.TempDir(), Pinned: w.repo.Root().Raw()})
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// Two upstreams that accept and never answer cost seconds, and nothing once they are known: the second is asked
// while the first is silent, the third when the first is given up.
func TestMuteUpstreams(t *testing.T) {
	w := newWorld(t, 10)
	synctest.Test(t, func(t *testing.T) {
		c := slow(t, Config{Patience: time.Minute}, "http://a", "http://b", "http://good")
		n := (&network{hosts: map[string]http.Handler{"good": w.handler()}}).connect(c)
		told := map[string]error{}
		search := Search{
			Trusted: trusting(t, w), Clock: trust.Clock{Now: day},
			Looked: func(u *Upstream, _ *trust.Repository, err error) { told[u.base.Host] = err },
		}
		if r, err := c.Newest(t.Context(), search); err != nil || r.Version(trust.RoleTargets) != 2 {
			t.Fatal(err)
		}
		if got := n.asked[:3]; !slices.Equal(got, []string{"a 0s", "b 10s", "good 15s"}) {
			t.Errorf("asked %q", got)
		}
		if took := time.Since(n.start); took != 25*time.Second {
			t.Errorf("expected 15s, and 10s for the second, got %v", took)
		}
		if !errors.Is(told["a"], ErrUnavailable) || told["good"] != nil || len(told) < 2 {
			t.Errorf("told of %v", told)
		}
		// An archive comes from the one that answers, and so does the next search, which waits once for the others.
		n.asked, n.start = nil, time.Now()
		a := w.archives[0]
		if err := c.download(t.Context(), a.rel, a.blocks, sinkFor(a), nil); err != nil {
			t.Fatal(err)
		}
		search.Enough = func(*trust.Repository) bool { return true }
		if _, err := c.Newest(t.Context(), search); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(n.start); took != 0 || slices.ContainsFunc(n.asked, func(s string) bool { return !strings.HasPrefix(s, "good ") }) {
			t.Errorf("after %v asked %q", took, n.asked)
		}
		search.Enough = nil
		time.Sleep(time.Minute)
		n.start = time.Now()
		if _, err := c.Newest(t.Context(), search); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(n.start); took != 10*time.Second {
			t.Errorf("expected the others to be waited for once, 10s, got %v", took)
		}
	})
}

// A call ends when nothing came for as long as it is patient, whatever waits: an answer, a body, or a pause.
func TestPatienceEndsWhateverWaits(t *testing.T) {
	w := newWorld(t, 10<<20)
	a := w.archives[0]
	stuck := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { a.serve(rw, r) })
	for name, hosts := range map[string]map[string]http.Handler{
		"no answer": {}, "no body": {"a": stuck, "b": stuck}, "one of each": {"b": stuck},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := slow(t, Config{Patience: time.Minute, StallWindow: time.Hour}, "http://a", "http://b")
				n := (&network{hosts: hosts, slow: map[string]time.Duration{"a": time.Hour, "b": time.Hour}}).connect(c)
				err := c.download(t.Context(), a.rel, a.blocks, sinkFor(a), nil)
				wantErr(t, err, ErrUnavailable, "http://")
				if took := time.Since(n.start); took > time.Minute || took < 45*time.Second {
					t.Errorf("expected at most a minute, got %v: %v", took, err)
				}
				_, err = c.Newest(t.Context(), Search{Trusted: trusting(t, w), Clock: trust.Clock{Now: day}})
				if err == nil {
					t.Error("expected an error")
				}
				if took := time.Since(n.start); took > 2*time.Minute {
					t.Errorf("expected at most another minute, got %v: %v", took, err)
				}
			})
		})
	}
}

// What comes slowly is something, for as long as the limit allows; nobody else is asked beside it.
func TestSlowIsNotSilent(t *testing.T) {
	w := newWorld(t, 300_000)
	a := w.archives[0]
	synctest.Test(t, func(t *testing.T) {
		c := slow(t, Config{Patience: time.Minute, Race: -1}, "http://a", "http://b")
		n := (&network{hosts: map[string]http.Handler{"a": w.handler(), "b": w.handler()}, slow: map[string]time.Duration{"a": time.Second / 300}}).connect(c)
		search := Search{Trusted: trusting(t, w), Clock: trust.Clock{Now: day}, Enough: func(*trust.Repository) bool { return true }}
		if _, err := c.Newest(t.Context(), search); err != nil {
			t.Fatal(err)
		}
		sink := sinkFor(a)
		if err := c.download(t.Context(), a.rel, a.blocks, sink, nil); err != nil {
			t.Fatal(err)
		}
		sink.check(t)
		if !bytes.Equal(sink.have[0], a.data) || slices.ContainsFunc(n.asked, func(s string) bool { return strings.HasPrefix(s, "b ") }) {
			t.Errorf("asked %q", n.asked)
		}
		if took := time.Since(n.start); took < 15*time.Minute {
			t.Errorf("expected a quarter of an hour, got %v", took)
		}
	})
}

// Whoever was not asked yet goes before whoever was silent.
func TestNewOnesBeforeSilentOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := slow(t, Config{Patience: time.Hour}, "http://a", "http://b", "http://c")
		when, err := asked(t, c, func(n int, u *Upstream) error {
			time.Sleep(30 * time.Second)
			if u.base.Host == "c" {
				return nil
			}
			return down(u, 0, false)
		})
		if want := []string{"a 0s", "b 30s", "c 1m0s"}; err != nil || !slices.Equal(when, want) {
			t.Errorf("expected %q, got %q, %v", want, when, err)
		}
	})
}

// TestPauseEndsBesideASilentUpstream: an upstream that pauses when another one falls silent is asked once its pause is
// over, and not only when that one is given up.
func TestPauseEndsBesideASilentUpstream(t *testing.T) {
	world := newWorld(t, 1)
	synctest.Test(t, func(t *testing.T) {
		const pause = 20 * time.Second
		c, _ := client(t, Config{Upstreams: []string{"http://mute", "http://b"}, Backoff: pause, MaxBackoff: pause})
		n := (&network{hosts: map[string]http.Handler{"b": world.handler()}}).connect(c)
		c.Upstreams()[1].pause(time.Now(), &unavailable{err: ErrUnavailable})
		_, err := c.Newest(t.Context(), Search{Trusted: trusting(t, world), Clock: trust.Clock{Now: day}})
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(n.start); took > pause {
			t.Errorf("it took %v, expected about %v: %v", took, pause, n.asked)
		}
	})
}
