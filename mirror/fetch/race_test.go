package fetch

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openpowerquality/box-update-server/internal/pace"
	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// wire is a transport without sockets, in the time of a synctest bubble.
type wire struct {
	handler http.Handler
	rates   map[string]float64 // by host, bytes per second; 0: it begins an answer and sends nothing
	bursts  map[string]int     // by host, bytes of each answer that come at once
	link    float64            // bytes per second of all answers together; 0: any
	open    atomic.Int64       // answers under way
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := httptest.NewRecorder()
	w.handler.ServeHTTP(answer, r)
	resp := answer.Result()
	w.open.Add(1)
	resp.Body = &trickle{wire: w, ctx: r.Context(), from: resp.Body, rate: w.rates[r.URL.Host], burst: w.bursts[r.URL.Host], close: sync.OnceFunc(func() { w.open.Add(-1) })}
	return resp, nil
}

// trickle is a body that takes its time.
type trickle struct {
	wire  *wire
	ctx   context.Context
	from  io.Reader
	rate  float64
	burst int // bytes that come at once yet
	close func()
}

func (b *trickle) Read(p []byte) (int, error) {
	if b.burst > 0 {
		n, err := b.from.Read(p[:min(len(p), b.burst)])
		b.burst -= n
		return n, err
	}
	rate := b.rate
	if b.wire.link > 0 {
		rate = min(rate, b.wire.link/float64(b.wire.open.Load()))
	}
	if rate == 0 {
		<-b.ctx.Done()
		return 0, context.Cause(b.ctx)
	}
	n, err := b.from.Read(p[:min(len(p), max(1, int(rate)))])
	if waitErr := pace.Sleep(b.ctx, time.Duration(float64(n)/rate*float64(time.Second))); waitErr != nil {
		return 0, context.Cause(b.ctx)
	}
	return n, err
}

func (b *trickle) Close() error {
	b.close()
	return nil
}

// wired returns a client of upstreams http://a, http://b … that are a wire.
func wired(t *testing.T, w *wire, cfg Config, hosts ...string) (*Client, *testworld.Log) {
	t.Helper()
	for _, h := range hosts {
		cfg.Upstreams = append(cfg.Upstreams, "http://"+h)
	}
	c, log := client(t, cfg)
	c.http.Transport = w
	return c, log
}

const rapid = math.MaxInt32 // bytes per second

// An upstream that is far slower than another one is left for it, and one that is as slow as the link is not.
func TestRace(t *testing.T) {
	world := newWorld(t, 9*mib, mib)
	for _, tc := range []struct {
		name  string
		long  bool
		rates map[string]float64
		link  float64
		hosts []string
		slow  string // whom another one outpaces
		most  time.Duration
	}{
		{"a drip", true, map[string]float64{"a": 300, "b": rapid}, 0, []string{"a", "b"}, "a", 2 * time.Minute},
		{"a drip after a silent one", true, map[string]float64{"a": 0, "b": 300, "c": rapid}, 0, []string{"a", "b", "c"}, "b", 2 * time.Minute},
		{"a drip beside a silent one", false, map[string]float64{"a": 3000, "b": 0}, 0, []string{"a", "b"}, "", time.Hour},
		{"a drip beside two slow ones", false, map[string]float64{"a": 300, "b": 400, "c": 50_000}, 0, []string{"a", "b", "c"}, "a", 5 * time.Minute},
		{"all alike", false, map[string]float64{"a": 3000, "b": 4000}, 0, []string{"a", "b"}, "", time.Hour},
		{"a slow link", false, map[string]float64{"a": rapid, "b": rapid}, 2000, []string{"a", "b"}, "", time.Hour},
		{"alone", false, map[string]float64{"a": 300}, 0, []string{"a"}, "", 2 * time.Hour},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &wire{handler: world.handler(), rates: tc.rates, link: tc.link}
				c, log := wired(t, w, Config{}, tc.hosts...)
				a := world.archives[1]
				if tc.long {
					a = world.archives[0]
				}
				sink, began := sinkFor(a), time.Now()
				if err := c.download(t.Context(), a.rel, a.blocks, sink, nil); err != nil {
					t.Fatal(err)
				}
				sink.check(t)
				if took := time.Since(began); took > tc.most {
					t.Errorf("expected at most %v, it took %v\n%v", tc.most, took, log)
				}
				for _, u := range c.Upstreams() {
					host := strings.TrimPrefix(u.String(), "http://")
					if got := !u.State().Slow.IsZero(); got != strings.Contains(tc.slow, host) {
						t.Errorf("%s: slow: %v\n%v", host, got, log)
					}
				}
				if raced := c.received() - a.rel.Length(); raced > update.BlockSize {
					t.Errorf("%d bytes came for nothing, expected at most a block", raced)
				}
				if tc.slow != "" && !strings.Contains(log.String(), ErrOutpaced.Error()) {
					t.Errorf("the log says nothing of it:\n%v", log)
				}
			})
		})
	}
}

// An upstream that sends the beginning of each answer at once, and then drips, does not keep a box from the one that it
// outpaced, whether the box knows what that one gave, or only that it was slow.
func TestRaceAgainstABurst(t *testing.T) {
	world := newWorld(t, 9*mib)
	a := world.archives[0]
	for _, tc := range []struct {
		honest float64 // bytes per second
		burst  int
		before bool // an earlier run was outpaced by it
		slow   string
	}{{3000, raceBytes * 3 / 4, false, ""}, {60_000, 300 << 10, false, "b"}, {60_000, mib, false, "b"}, {60_000, mib, true, "b"}} {
		t.Run(fmt.Sprintf("%d bytes, outpaced before: %v", tc.burst, tc.before), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &wire{handler: world.handler(), rates: map[string]float64{"a": tc.honest, "b": 300}, bursts: map[string]int{"b": tc.burst}}
				c, log := wired(t, w, Config{}, "a", "b")
				if tc.before {
					c.Upstreams()[0].SetSlow(time.Now().Add(time.Hour))
				}
				sink, began := sinkFor(a), time.Now()
				if err := c.download(t.Context(), a.rel, a.blocks, sink, nil); err != nil {
					t.Fatal(err)
				}
				sink.check(t)
				alone := time.Duration(float64(a.rel.Length()) / tc.honest * float64(time.Second))
				if took := time.Since(began); took > alone+2*time.Minute {
					t.Errorf("expected at most 2 minutes more than %v, it took %v\n%v", alone, took, log)
				}
				for _, u := range c.Upstreams() {
					if got := !u.State().Slow.IsZero(); got != (u.String() == "http://"+tc.slow) {
						t.Errorf("%v: slow: %v\n%v", u, got, log)
					}
				}
			})
		})
	}
}

// What takes long on this side is no upstream's fault.
func TestRaceIsNotLostByTheDisk(t *testing.T) {
	world := newWorld(t, 9*mib)
	a := world.archives[0]
	synctest.Test(t, func(t *testing.T) {
		w := &wire{handler: world.handler(), rates: map[string]float64{"a": 4 * mib, "b": rapid}}
		c, log := wired(t, w, Config{}, "a", "b")
		if err := c.download(t.Context(), a.rel, a.blocks, lazy{sinkFor(a)}, nil); err != nil {
			t.Fatal(err)
		}
		if c.raced.Load() > 0 || log.String() != "" {
			t.Errorf("%d bytes came in trials\n%v", c.raced.Load(), log)
		}
	})
}

// lazy is a sink on a disk that takes two minutes for a block.
type lazy struct{ sink }

func (l lazy) WriteBlock(i int, p []byte) error {
	time.Sleep(2 * time.Minute)
	return l.sink.WriteBlock(i, p)
}

// The list of a repository, at 300 bytes per second, from the upstream that is asked first.
func TestRaceForMetadata(t *testing.T) {
	var lengths []int
	for i := range 200 {
		lengths = append(lengths, i+1)
	}
	world := newWorld(t, lengths...)
	name := trust.FileName(trust.RoleTargets, world.repo.Version(trust.RoleTargets))
	for what, missing := range map[string]string{"the same is at hand elsewhere": "", "the other one has an older list": name} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				honest := world.handler()
				w := &wire{rates: map[string]float64{"a": 300, "b": rapid}, handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
					if missing != "" && r.URL.Host == "b" && strings.HasSuffix(r.URL.Path, missing) {
						http.NotFound(rw, r)
						return
					}
					honest.ServeHTTP(rw, r)
				})}
				c, log := wired(t, w, Config{}, "a", "b")
				began, asked := time.Now(), ""
				err := c.Ask(t.Context(), func(ctx context.Context, u *Upstream) error {
					asked += strings.TrimPrefix(u.String(), "http://")
					if asked == "ab" {
						return nil
					}
					_, err := u.Fetch(ctx, name, 1<<20, update.Digest{})
					return err
				})
				if err != nil || asked != "ab" || time.Since(began) > 2*time.Minute {
					t.Errorf("asked %q, %v, %v\n%v", asked, time.Since(began), err, log)
				}
			})
		})
	}
}

// Two upstreams that each send half of the block and are cut, in turn, are no progress.
func TestHalvesEndWithPatience(t *testing.T) {
	world := newWorld(t, 9*mib)
	a := world.archives[0]
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		w := &wire{rates: map[string]float64{"a": rapid, "b": rapid}, handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if asked++; asked%2 == 0 {
				rw.WriteHeader(http.StatusServiceUnavailable) // so that the other one is asked
				return
			}
			rw.Header().Set("Content-Length", fmt.Sprint(9*mib))
			rw.Write(a.data[:mib])
		})}
		c, _ := wired(t, w, Config{}, "a", "b")
		began := time.Now()
		err := c.download(t.Context(), a.rel, a.blocks, sinkFor(a), nil)
		wantErr(t, err, ErrUnavailable)
		if took := time.Since(began); took > 10*time.Minute {
			t.Errorf("it took %v", took)
		}
	})
}

// The same over sockets.
func TestRaceOverSockets(t *testing.T) {
	world := newWorld(t, 9*mib)
	a := world.archives[0]
	slow := server(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Length", fmt.Sprint(len(a.data)))
		for _, b := range a.data {
			if _, err := rw.Write([]byte{b}); err != nil {
				return
			}
			rw.(http.Flusher).Flush()
			select {
			case <-time.After(10 * time.Millisecond):
			case <-r.Context().Done():
				return
			}
		}
	}))
	cfg := quick(slow.URL, server(t, world.handler()).URL)
	cfg.StallRate, cfg.Race = 1, 300*time.Millisecond
	c, log := client(t, cfg)
	sink := sinkFor(a)
	if err := c.download(t.Context(), a.rel, a.blocks, sink, nil); err != nil {
		t.Fatal(err)
	}
	sink.check(t)
	if s := c.Upstreams()[0].State(); s.Slow.IsZero() || !strings.Contains(log.String(), ErrOutpaced.Error()) {
		t.Errorf("%+v\n%v", s, log)
	}
}

// However fast an upstream is that has the archive wrong, the one that has it right is not left for it.
func TestNoRaceWithADamagedArchive(t *testing.T) {
	world := newWorld(t, mib)
	a := world.archives[0]
	synctest.Test(t, func(t *testing.T) {
		right := world.handler()
		liar := forged(right, a)
		q := &requests{next: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Host == "a" {
				liar.ServeHTTP(rw, r)
				return
			}
			right.ServeHTTP(rw, r)
		})}
		c, log := wired(t, &wire{handler: q, rates: map[string]float64{"a": rapid, "b": 3000}}, Config{}, "a", "b")
		sink := sinkFor(a)
		if err := c.download(t.Context(), a.rel, a.blocks, sink, nil); err != nil {
			t.Fatal(err)
		}
		sink.check(t)
		if len(q.list()) != 2 || !c.Upstreams()[1].State().Slow.IsZero() {
			t.Errorf("expected each asked once, got %q\n%v", q.list(), log)
		}
	})
}
