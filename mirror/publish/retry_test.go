package publish

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openpowerquality/box-update-server/internal/pace"
	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/update"
)

// fakeServer answers without a network.
type fakeServer func(*http.Request) (*http.Response, error)

func (f fakeServer) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func answer(status int, body io.Reader) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(body)}
}

// known returns a Remote whose server has answered before.
func known(t *testing.T, c Config, f fakeServer) *Remote {
	t.Helper()
	c.URL = "http://origin.test"
	r, err := newRemote(f, c)
	if err != nil {
		t.Fatal(err)
	}
	r.answered.Store(true)
	return r
}

var errCut = errors.New("cut")

// A server that went away is asked again, ever less often, and given up when the patience ends.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Duration
		begin := time.Now()
		r := known(t, Config{Patience: 2 * time.Minute}, func(*http.Request) (*http.Response, error) {
			at = append(at, time.Since(begin))
			return nil, errCut
		})
		_, err := r.Fetch(t.Context(), "timestamp.json", 100, update.Digest{})
		if !errors.Is(err, errCut) || !strings.Contains(err.Error(), "given up after 2m0s") {
			t.Fatalf("expected it to be given up, got %v", err)
		}
		if took := time.Since(begin); took < 2*time.Minute-pauses.Most || took > 2*time.Minute {
			t.Fatalf("given up after %v", took)
		}
		for i := 1; i < len(at); i++ {
			most := min(pauses.First<<(i-1), pauses.Most)
			if pause := at[i] - at[i-1]; pause < most/2 || pause > most {
				t.Errorf("pause %d: expected %v to %v, got %v", i, most/2, most, pause)
			}
		}
	})
}

func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin, tries := time.Now(), 0
		r := known(t, Config{}, func(*http.Request) (*http.Response, error) {
			if tries++; tries == 1 {
				busy := answer(http.StatusServiceUnavailable, strings.NewReader("busy"))
				busy.Header.Set("Retry-After", "40")
				return busy, nil
			}
			return answer(http.StatusOK, strings.NewReader("here")), nil
		})
		raw, err := r.Fetch(t.Context(), "timestamp.json", 100, update.Digest{})
		if err != nil || string(raw) != "here" {
			t.Fatalf("got %q, %v", raw, err)
		}
		if took := time.Since(begin); took < 40*time.Second || took > 41*time.Second {
			t.Fatalf("expected 40 s, got %v", took)
		}
	})
}

func TestCancelledPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		begin := time.Now()
		r := known(t, Config{}, func(*http.Request) (*http.Response, error) { return nil, errCut })
		_, err := r.Fetch(ctx, "timestamp.json", 100, update.Digest{})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != 10*time.Second {
			t.Fatalf("got %v after %v", err, time.Since(begin))
		}
	})
}

// A server that turns into another one is not asked until it is the old one again.
func TestAnotherServer(t *testing.T) {
	for _, want := range []error{&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, tls.RecordHeaderError{Msg: "no TLS"}} {
		synctest.Test(t, func(t *testing.T) {
			tries := 0
			r := known(t, Config{}, func(*http.Request) (*http.Response, error) {
				tries++
				return nil, want
			})
			if _, err := r.Fetch(t.Context(), "timestamp.json", 100, update.Digest{}); !errors.Is(err, want) || tries != 1 {
				t.Errorf("expected %v at once, got %v after %d tries", want, err, tries)
			}
		})
	}
}

// Progress of one block keeps the patience of all.
func TestPatienceIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPatience(time.Minute)
		time.Sleep(50 * time.Second)
		p.renew()
		if got := p.left(); got != time.Minute {
			t.Fatalf("got %v", got)
		}
	})
}

// trickle gives n bytes after each pause.
type trickle struct {
	n     int
	pause time.Duration
	left  int
	ctx   context.Context
	ready int
}

func (b *trickle) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, io.EOF
	}
	if b.ready == 0 {
		if err := pace.Sleep(b.ctx, b.pause); err != nil {
			return 0, err
		}
		b.ready = b.n
	}
	n := min(b.ready, len(p))
	b.ready -= n
	b.left -= n
	return n, nil
}

// An answer may take as long as it likes while it goes forward.
func TestStalledAnswer(t *testing.T) {
	for _, c := range []struct {
		name  string
		pause time.Duration
		want  error
	}{
		{"slow but steady", 29 * time.Second, nil},
		{"stalled", 31 * time.Second, fetch.ErrStalled},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const length = 100 * stallBytes
				r := known(t, Config{}, func(q *http.Request) (*http.Response, error) {
					return answer(http.StatusOK, &trickle{n: stallBytes, pause: c.pause, left: length, ctx: q.Context()}), nil
				})
				_, _, err := r.exchange(t.Context(), request{method: http.MethodGet}, length)
				if !errors.Is(err, c.want) {
					t.Fatalf("expected %v, got %v", c.want, err)
				}
			})
		})
	}
}

// A body has time by its length, however it passes, and so has its answer.
func TestStalledBody(t *testing.T) {
	const length = 4 << 20
	for _, c := range []struct {
		name string
		wait time.Duration
		took time.Duration
		want error
	}{
		{"at the least rate", 0, answerTime + length/leastRate*time.Second, nil},
		{"below the least rate", 0, answerTime + (length/leastRate+2)*time.Second, fetch.ErrStalled},
		{"within its time", partTime, partTime - time.Second, nil},
		{"beyond its time", partTime, partTime + time.Second, fetch.ErrStalled},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := known(t, Config{}, func(q *http.Request) (*http.Response, error) {
					if _, err := io.ReadAll(q.Body); err != nil {
						return nil, err
					}
					if err := pace.Sleep(q.Context(), c.took); err != nil {
						return nil, err
					}
					return answer(http.StatusNoContent, http.NoBody), nil
				})
				_, _, err := r.exchange(t.Context(), request{method: http.MethodPut, body: make([]byte, length), wait: c.wait}, 0)
				if !errors.Is(err, c.want) {
					t.Fatalf("expected %v, got %v", c.want, err)
				}
			})
		})
	}
}

// After a request has ended, nothing reads its body any more: it holds the next block then.
func TestBodyIsReturned(t *testing.T) {
	var body io.ReadCloser
	r := known(t, Config{}, func(q *http.Request) (*http.Response, error) {
		body = q.Body
		return answer(http.StatusServiceUnavailable, http.NoBody), nil
	})
	if _, _, err := r.exchange(t.Context(), request{method: http.MethodPut, body: []byte("block")}, 0); err == nil {
		t.Fatal("expected an error")
	}
	if n, err := body.Read(make([]byte, 5)); n != 0 || err == nil {
		t.Fatalf("expected nothing, got %d bytes and %v", n, err)
	}
}
