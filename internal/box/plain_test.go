package box

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"

	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/update"
)

// TestSlowServer: an answer that brings too little in a window is cut, and one that brings enough is not.
func TestSlowServer(t *testing.T) {
	for name, c := range map[string]struct {
		every time.Duration // 1 KiB comes
		slow  bool
	}{
		"too slow":    {10 * time.Second, true},
		"slow enough": {3 * time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, body := (&plainServer{least: leastRate}).watch(t.Context())
				defer body.stop()
				r := body.of(&trickle{ctx, c.every, 100})
				buf := make([]byte, 1024)
				var err error
				for err == nil {
					_, err = r.Read(buf)
				}
				if c.slow != errors.Is(err, fetch.ErrStalled) {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

// trickle brings a buffer now and then.
type trickle struct {
	ctx   context.Context
	every time.Duration
	left  int
}

func (s *trickle) Read(p []byte) (int, error) {
	if s.left--; s.left < 0 {
		return 0, os.ErrClosed
	}
	select {
	case <-time.After(s.every):
		return len(p), nil
	case <-s.ctx.Done():
		return 0, context.Cause(s.ctx)
	}
}

// FuzzPlainAnswers feeds the parsers of what a server says: a name that one returns is of the product, and
// was in the answer.
func FuzzPlainAnswers(f *testing.F) {
	f.Add([]byte(`{"newest":"opq-box-update-1.tar.gz"}`), []byte("1"), []byte("opq-box-update-1.tar.gz\nopq-box-update-1.tar.bz2"))
	f.Add([]byte(`{"newest":null}`), []byte("01"), []byte("\n\n"))
	f.Add([]byte(`{"newest":"other-1.tar.gz"}`), []byte(""), []byte("opq-box-update-2.tar.gz"))
	f.Add([]byte(`[]`), []byte("99999999999999999999999999999999"), []byte(""))
	f.Fuzz(func(t *testing.T, catalog, version, list []byte) {
		if n, err := parseUpdates(catalog, update.DefaultProduct); err == nil && n.Product() != update.DefaultProduct {
			t.Fatalf("%q gave %v", catalog, n)
		}
		v, err := update.ParseVersion(string(version))
		if err != nil {
			return
		}
		n, err := parseList(v, list, update.DefaultProduct)
		if err != nil {
			return
		}
		if n.Product() != update.DefaultProduct || n.Version().String() != string(version) || !bytes.Contains(list, []byte(n.String())) {
			t.Fatalf("%q, %q gave %v", version, list, n)
		}
	})
}

// TestPlainRate: a cap on bytes per second is kept, and is not taken for a slow server.
func TestPlainRate(t *testing.T) {
	for _, perSecond := range []int{100, 10_000} {
		synctest.Test(t, func(t *testing.T) {
			s := &plainServer{least: min(leastRate, float64(perSecond)/2), limiter: rate.NewLimiter(rate.Limit(perSecond), perSecond)}
			ctx, body := s.watch(t.Context())
			defer body.stop()
			began := time.Now()
			n, err := io.Copy(io.Discard, body.of(bytes.NewReader(make([]byte, 300*perSecond))))
			if err != nil || ctx.Err() != nil {
				t.Errorf("%d bytes came, then: %v, %v", n, err, ctx.Err())
			}
			if took := time.Since(began); took < 299*time.Second || took > 301*time.Second {
				t.Errorf("300 seconds' share took %v", took)
			}
		})
	}
}

// FuzzContentRange: what is accepted is within its bounds.
func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-0/1", "bytes 5-9/10", "bytes 5-9/*", "bytes */10", "bytes 9-5/10", "bytes +5-9/10", "bytes 5-9/10 "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		from, total, err := parseContentRange(s)
		if err == nil && (from < 0 || from >= total || !strings.HasPrefix(s, fmt.Sprintf("bytes %d-", from)) || !strings.HasSuffix(s, fmt.Sprintf("/%d", total))) {
			t.Fatalf("%q gave %d, %d", s, from, total)
		}
	})
}

// FuzzRetryAfter: a pause is never negative and never longer than the longest.
func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"0", "120", "-1", "99999999999999999999", "Sun, 01 Mar 2026 12:05:00 GMT", "Sun, 01 Mar 2020 12:05:00 GMT", "soon"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d := parseRetryAfter(s, start); d < 0 || d > longestPause {
			t.Fatalf("%q gave %v", s, d)
		}
	})
}
