package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
)

func TestParseContentRange(t *testing.T) {
	got, err := parseContentRange("bytes 5-9/10")
	if err != nil || got != (byteRange{5, 9, 10}) {
		t.Errorf("%v, %v", got, err)
	}
	for _, s := range []string{
		"", "bytes", "bytes 5-9", "bytes 5-9/", "bytes 5-/10", "bytes -9/10", "bytes 5-9/*", "bytes */10", "Bytes 5-9/10",
		"bytes=5-9/10", "bytes  5-9/10", "bytes 05-9/10", "bytes +5-9/10", "bytes 5-9/10 ", "bytes 6-5/10", "bytes 5-10/10",
		"bytes 5-9-9/10", "bytes 5-9/10/10", "bytes 5-9/9223372036854775808", "items 5-9/10", strings.Repeat("bytes 5-9/10", 9),
	} {
		if got, err := parseContentRange(s); err == nil || got != (byteRange{}) {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
}

func FuzzParseContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-0/1", "bytes 5-9/10", "bytes 0-9223372036854775806/9223372036854775807", "bytes */10", "bytes 5-9/*"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := parseContentRange(s)
		if err == nil && (r.String() != s || r.first < 0 || r.last < r.first || r.total <= r.last) {
			t.Errorf("%q: %+v", s, r)
		}
	})
}

// asked asks until it is over, and returns when which upstream was asked, in seconds.
func asked(t *testing.T, c *Client, ask func(n int, u *Upstream) error) (when []string, err error) {
	t.Helper()
	start := time.Now()
	err = c.Ask(t.Context(), func(_ context.Context, u *Upstream) error {
		when = append(when, fmt.Sprintf("%s %v", u.base.Host, time.Since(start)))
		return ask(len(when), u)
	})
	return when, err
}

func down(u *Upstream, after time.Duration, progress bool) error {
	return &unavailable{err: u.failf("file", "%w", ErrUnavailable), after: after, progress: progress}
}

func slow(t *testing.T, c Config, upstreams ...string) *Client {
	t.Helper()
	c.Upstreams = upstreams
	c.Jitter = func() float64 { return 1 }
	client, _ := client(t, c)
	return client
}

func TestBackoffDoubles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := slow(t, Config{MaxBackoff: 5 * time.Second, Patience: time.Minute}, "http://a")
		when, err := asked(t, c, func(n int, u *Upstream) error {
			if n == 6 {
				return nil
			}
			return down(u, 0, false)
		})
		if want := []string{"a 0s", "a 1s", "a 3s", "a 7s", "a 12s", "a 17s"}; err != nil || !slices.Equal(when, want) {
			t.Errorf("expected %q, got %q, %v", want, when, err)
		}
	})
}

func TestRetryAfterIsHonoured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := slow(t, Config{Patience: time.Hour, MaxRetryAfter: 40 * time.Second}, "http://a")
		when, err := asked(t, c, func(n int, u *Upstream) error {
			return []error{down(u, 30*time.Second, false), down(u, time.Hour, false), nil}[n-1]
		})
		if want := []string{"a 0s", "a 30s", "a 1m10s"}; err != nil || !slices.Equal(when, want) {
			t.Errorf("expected %q, got %q, %v", want, when, err)
		}
	})
}

func TestPatienceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := slow(t, Config{Backoff: time.Minute, MaxBackoff: time.Minute, Patience: 150 * time.Second}, "http://a")
		when, err := asked(t, c, func(_ int, u *Upstream) error { return down(u, 0, false) })
		wantErr(t, err, ErrUnavailable, "http://a/file")
		if want := []string{"a 0s", "a 1m0s", "a 2m0s"}; !slices.Equal(when, want) {
			t.Errorf("expected %q, got %q", want, when)
		}
	})
}

// Whoever sent something goes on, for as long as it does; then the others get their turn.
func TestCutUpstreamGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := slow(t, Config{}, "http://a", "http://b")
		when, err := asked(t, c, func(n int, u *Upstream) error {
			if n == 4 {
				return nil
			}
			return down(u, 0, n < 3)
		})
		if want := []string{"a 0s", "a 1s", "a 2s", "b 2s"}; err != nil || !slices.Equal(when, want) {
			t.Errorf("expected %q, got %q, %v", want, when, err)
		}
	})
}

func TestRefusedUpstreamComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := slow(t, Config{SetAside: time.Minute}, "http://a", "http://b")
		refuse := func(n int, u *Upstream) error {
			if u.base.Host == "a" {
				return u.refusef("file", "block 1")
			}
			return nil
		}
		for _, want := range [][]string{{"a 0s", "b 0s"}, {"b 0s"}} {
			when, err := asked(t, c, refuse)
			if err != nil || !slices.Equal(when, want) {
				t.Errorf("expected %q, got %q, %v", want, when, err)
			}
		}
		s := c.Upstreams()[0].State()
		if want := time.Now().Add(time.Minute); !s.Refused || !s.Until.Equal(want) || s.Reason != "http://a/file: refused: block 1" {
			t.Errorf("%+v", s)
		}
		time.Sleep(time.Minute)
		if s := c.Upstreams()[0].State(); s != (State{}) {
			t.Errorf("%+v", s)
		}
	})
}

// However patient a call is, it doesn't wait for whoever sent something wrong.
func TestNobodyWaitsForARefusedUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := slow(t, Config{SetAside: time.Minute, Patience: time.Hour}, "http://a")
		c.Upstreams()[0].setAside(errors.New("older than before"))
		when, err := asked(t, c, func(int, *Upstream) error { return nil })
		wantErr(t, err, ErrRefused, "http://a: refused earlier, not asked before ", "older than before")
		if len(when) > 0 {
			t.Errorf("asked: %q", when)
		}
	})
}

// Patience begins anew with whatever comes.
func TestSlowProgressIsProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := slow(t, Config{Backoff: time.Minute, MaxBackoff: time.Minute, Patience: 90 * time.Second}, "http://a")
		when, err := asked(t, c, func(n int, u *Upstream) error {
			if n == 10 {
				return nil
			}
			return down(u, 0, true)
		})
		if err != nil || len(when) != 10 {
			t.Errorf("%q, %v", when, err)
		}
	})
}

func TestBehindUpstreamIsAskedLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := slow(t, Config{}, "http://a", "http://b")
		c.Upstreams()[0].SetBehind(true)
		when, err := asked(t, c, func(n int, u *Upstream) error {
			if n == 1 {
				return errors.New("something else")
			}
			return nil
		})
		if want := []string{"b 0s", "a 0s"}; err != nil || !slices.Equal(when, want) {
			t.Errorf("expected %q, got %q, %v", want, when, err)
		}
	})
}

// TestOnlyOlderMetadataAreBehind: older and expired metadata show that an upstream is behind. One that is down, busy, or lies
// shows nothing, in either way.
func TestOnlyOlderMetadataAreBehind(t *testing.T) {
	const keeps = "keeps"
	for _, c := range []struct {
		err   error
		after string
	}{
		{trust.ErrRollback, "behind"},
		{trust.ErrExpired, "behind"},
		{&unavailable{err: fmt.Errorf("%w: connection refused", ErrUnavailable)}, keeps},
		{&unavailable{err: fmt.Errorf("%w: %w", ErrUnavailable, trust.ErrExpired)}, keeps},
		{fmt.Errorf("%w: status 403", ErrRefused), keeps},
		{trust.ErrNotFound, keeps},
		{trust.ErrThreshold, keeps},
		{trust.ErrMalformed, keeps},
	} {
		for _, before := range []bool{false, true} {
			client, _ := client(t, quick("http://a", "http://b"))
			u := client.Upstreams()[0]
			u.SetBehind(before)
			if err := client.judge(u, c.err); !errors.Is(err, c.err) {
				t.Errorf("%v: got %v", c.err, err)
			}
			if got, want := u.State().Behind, before || c.after == "behind"; got != want {
				t.Errorf("%v, behind before %v: expected %v, got %v", c.err, before, want, got)
			}
			if got, want := u.State().Refused, status.Hostile(c.err); got != want {
				t.Errorf("%v: set aside %v, expected %v", c.err, got, want)
			}
		}
	}
}

// Fifty connections that are cut at once are one failure.
func TestFailuresTogetherCountOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := slow(t, Config{}, "http://a")
		u := c.Upstreams()[0]
		began := time.Now()
		time.Sleep(time.Second)
		for range 50 {
			u.note(began, down(u, 0, false))
		}
		if got := time.Until(u.State().Until); got != time.Second {
			t.Errorf("expected a pause of 1s, got %v", got)
		}
	})
}

// mute is a transport whose answers begin, and bring nothing.
type mute struct{}

func (mute) RoundTrip(r *http.Request) (*http.Response, error) {
	in, out := io.Pipe()
	context.AfterFunc(r.Context(), func() { out.CloseWithError(r.Context().Err()) })
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: in}, nil
}

func TestStallSaysWhatWasExpected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := client(t, Config{Upstreams: []string{"http://mute.test"}, Transport: mute{}, StallRate: 100, StallWindow: 10 * time.Second})
		resp, err := c.Upstreams()[0].Send(t.Context(), Request{File: "x"})
		must(t, err)
		defer resp.Body.Close()
		_, err = io.ReadAll(resp.Body)
		wantErr(t, err, ErrStalled, "expected 100 bytes per second over 10s, got ")
	})
}

func TestRetryAfterFromTheWire(t *testing.T) {
	for name, value := range map[string]string{"seconds": "3000", "date": time.Now().Add(50 * time.Minute).UTC().Format(http.TimeFormat)} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 10)
			s := server(t, http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
				rw.Header().Set("Retry-After", value)
				rw.WriteHeader(http.StatusServiceUnavailable)
			}))
			c, _ := client(t, quick(s.URL, server(t, w.handler()).URL))
			a := w.archives[0]
			if err := c.download(t.Context(), a.rel, a.blocks, sinkFor(a), nil); err != nil {
				t.Fatal(err)
			}
			if got := time.Until(c.Upstreams()[0].State().Until); got < 48*time.Minute || got > 51*time.Minute {
				t.Errorf("expected about 50 minutes, got %v", got)
			}
		})
	}
}

// An upstream is failing from its first failure until something comes from it, whether it is time to ask it
// again or not.
func TestFailing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := slow(t, Config{}, "http://a")
		u := c.Upstreams()[0]
		check := func(when string, want bool) {
			t.Helper()
			if s := u.State(); s.Failing != want || want != strings.Contains(s.Reason, "unavailable") {
				t.Errorf("%s: got %+v", when, s)
			}
		}
		check("at first", false)
		u.note(time.Now(), down(u, 0, false))
		check("after a failure", true)
		time.Sleep(time.Hour)
		check("when it may be asked again", true)
		u.noteProgress()
		check("when something came", false)
		time.Sleep(time.Second)
		u.note(time.Now(), down(u, 0, false))
		check("after another failure", true)
		u.note(time.Now(), nil)
		check("after an answer", false)
	})
}
