package fetch

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

func gzipped(b []byte) []byte {
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	z.Write(b)
	z.Close()
	return buf.Bytes()
}

// damaged changes a byte of the checksum at the end.
func damaged(b []byte) []byte {
	b[len(b)-8] ^= 1
	return b
}

func upstream(t testing.TB, h http.HandlerFunc) *Upstream {
	t.Helper()
	c, _ := client(t, quick(server(t, h).URL))
	return c.Upstreams()[0]
}

func TestFetchMetadata(t *testing.T) {
	const limit = 1000
	full := bytes.Repeat([]byte("m"), limit)
	for _, tc := range []struct {
		name   string
		header http.Header
		status int
		body   []byte
		want   error
		line   string
	}{
		{name: "plain", status: 200, body: full},
		{name: "gzip", status: 200, body: gzipped(full), header: http.Header{"Content-Encoding": {"gzip"}}},
		{name: "one byte too long", status: 200, body: append(full, 'x'), want: ErrRefused, line: "expected at most 1000 bytes, got more"},
		{name: "one byte too long in gzip", status: 200, body: gzipped(append(full, 'x')), header: http.Header{"Content-Encoding": {"gzip"}}, want: ErrRefused, line: "expected at most 1000 bytes, got more"},
		{name: "gzip bomb", status: 200, body: gzipped(make([]byte, 10<<20)), header: http.Header{"Content-Encoding": {"gzip"}}, want: ErrRefused, line: "expected at most 1000 bytes, got more"},
		{name: "empty gzip members without end", status: 200, body: bytes.Repeat(gzipped(nil), 100_000), header: http.Header{"Content-Encoding": {"gzip"}}, want: ErrRefused, line: "expected at most 2024 compressed bytes"},
		{name: "gzip that is none", status: 200, body: full, header: http.Header{"Content-Encoding": {"gzip"}}, want: ErrRefused, line: "expected a whole gzip file, got gzip: invalid header"},
		{name: "damaged gzip", status: 200, body: damaged(gzipped(full)), header: http.Header{"Content-Encoding": {"gzip"}}, want: ErrRefused, line: "expected a whole gzip file, got "},
		{name: "cut gzip", status: 200, body: gzipped(full)[:20], header: http.Header{"Content-Encoding": {"gzip"}}, want: ErrUnavailable, line: "the connection was cut"},
		{name: "another coding", status: 200, body: full, header: http.Header{"Content-Encoding": {"br"}}, want: ErrRefused, line: `expected Content-Encoding gzip or none, got "br"`},
		{name: "cut", status: 200, body: full, header: http.Header{"Content-Length": {"1200"}}, want: ErrUnavailable},
		{name: "404", status: 404, want: trust.ErrNotFound},
		{name: "403", status: 403, want: ErrRefused, line: "expected status 200, got 403"},
		{name: "503", status: 503, want: ErrUnavailable, line: "status 503"},
		{name: "304 that nobody asked for", status: 304, want: ErrRefused, line: "expected status 200, got 304"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			u := upstream(t, func(rw http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/metadata/timestamp.json" || r.Header.Get("User-Agent") != "box-update-server" {
					t.Errorf("got %v %v", r.URL, r.Header)
				}
				for k, v := range tc.header {
					rw.Header()[k] = v
				}
				rw.WriteHeader(tc.status)
				rw.Write(tc.body)
			})
			b, err := u.Fetch(t.Context(), "timestamp.json", limit, update.Digest{})
			if tc.want == nil {
				if err != nil || !bytes.Equal(b, full) {
					t.Fatalf("%d bytes, %v", len(b), err)
				}
				return
			}
			wantErr(t, err, tc.want, u.String()+"/metadata/timestamp.json: ", tc.line)
			if b != nil {
				t.Errorf("%d bytes beside an error", len(b))
			}
			if s := u.State(); s.Refused != errors.Is(tc.want, ErrRefused) {
				t.Errorf("%+v", s)
			}
		})
	}
}

// An object store answers 403 where there is no file: for the root after the newest that is the end of the
// chain, for a file that must be there it is an error.
func TestFetchForbidden(t *testing.T) {
	for _, status := range []int{http.StatusNotFound, http.StatusForbidden, http.StatusGone} {
		u := upstream(t, func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(status) })
		if _, err := u.Fetch(t.Context(), "2.root.json", 1000, update.Digest{}); !errors.Is(err, trust.ErrNotFound) {
			t.Errorf("a root, status %d: got %v", status, err)
		}
		if _, err := u.Fetch(t.Context(), "timestamp.json", 1000, update.Digest{}); err == nil || errors.Is(err, trust.ErrNotFound) != (status == http.StatusNotFound) {
			t.Errorf("the timestamp, status %d: got %v", status, err)
		}
	}
}

func TestUpstreamKeepsItsSpelling(t *testing.T) {
	for given, want := range map[string]string{
		"http://host/": "http://host", "http://host/a/b//": "http://host/a/b", "http://host/a%2Fb/": "http://host/a%2Fb", "http://host/a%2F": "http://host/a%2F",
	} {
		c, _ := client(t, quick(given))
		if got := c.Upstreams()[0].url("metadata/timestamp.json"); got != want+"/metadata/timestamp.json" {
			t.Errorf("%s: got %s", given, got)
		}
	}
}

func TestFetchWhatTheCallerHas(t *testing.T) {
	w := newWorld(t, 10)
	c, _ := client(t, quick(server(t, w.handler()).URL))
	raw := w.repo.Raw(trust.RoleTimestamp)
	b, err := c.Upstreams()[0].Fetch(t.Context(), trust.TimestampName, 10_000, update.Sum(raw))
	wantErr(t, err, trust.ErrUnchanged)
	if b != nil {
		t.Errorf("%d bytes beside an error", len(b))
	}
	b, err = c.Upstreams()[0].Fetch(t.Context(), trust.TimestampName, 10_000, update.Sum(nil))
	if err != nil || !bytes.Equal(b, raw) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

func TestFetchEndlessMetadata(t *testing.T) {
	u := upstream(t, func(rw http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			rw.Write(make([]byte, 1<<20))
		}
	})
	_, err := u.Fetch(t.Context(), "timestamp.json", 5000, update.Digest{})
	wantErr(t, err, ErrRefused, "expected at most 5000 bytes")
}

func TestFetchSlowMetadata(t *testing.T) {
	u := upstream(t, func(rw http.ResponseWriter, r *http.Request) {
		io.WriteString(rw, "{")
		rw.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	_, err := u.Fetch(t.Context(), "timestamp.json", 5000, update.Digest{})
	wantErr(t, err, ErrStalled, u.String())
}

func TestFetchNamesThatClimb(t *testing.T) {
	u := upstream(t, func(http.ResponseWriter, *http.Request) { t.Error("asked") })
	for _, name := range []string{"", "../timestamp.json", "..", ".", "a/b", `a\b`, "%2e%2e", "a?b", "a#b", "a b", "é"} {
		if _, err := u.Fetch(t.Context(), name, 10, update.Digest{}); err == nil || !strings.Contains(err.Error(), "expected a file name") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// What a box or a mirror trusts stays as it was, whatever an upstream serves.
func TestHostileRepositories(t *testing.T) {
	w := newWorld(t, 10)
	old := w.repo
	now := w.publish(20)
	next := w.publish(30)
	mixed := http.NewServeMux()
	mixed.Handle("/", handlerOf(next, w.archives))
	mixed.HandleFunc("/metadata/"+trust.FileName(trust.RoleTargets, next.Version(trust.RoleTargets)),
		func(rw http.ResponseWriter, _ *http.Request) { rw.Write(now.Raw(trust.RoleTargets)) })

	for _, tc := range []struct {
		name  string
		serve http.Handler
		at    time.Time
		want  error
	}{
		{"new", handlerOf(next, w.archives), day, nil},
		{"old", handlerOf(old, w.archives), day, trust.ErrRollback},
		{"frozen", handlerOf(now, w.archives), day.Add(trust.TimestampLife + time.Hour), trust.ErrExpired},
		{"mixed", mixed, day, trust.ErrMismatch},
		{"nothing", http.NotFoundHandler(), day, trust.ErrNotFound},
	} {
		t.Run(tc.name, func(t *testing.T) {
			state, err := trust.Open(trust.Config{Dir: t.TempDir(), Pinned: w.repo.Root().Raw()})
			if err != nil {
				t.Fatal(err)
			}
			refresh := func(h http.Handler, at time.Time) (*trust.Repository, error) {
				c, _ := client(t, quick(server(t, h).URL))
				var r *trust.Repository
				u := c.Upstreams()[0]
				r, err := state.Refresh(t.Context(), u, trust.Clock{Now: at})
				if err != nil {
					err = fmt.Errorf("%v: %w", u, err)
				}
				return r, err
			}
			r, err := refresh(handlerOf(now, w.archives), day)
			if err := errors.Join(err, state.Commit(r)); err != nil {
				t.Fatal(err)
			}
			r, err = refresh(tc.serve, tc.at)
			if tc.want == nil {
				if err != nil || r.Version(trust.RoleTargets) != next.Version(trust.RoleTargets) {
					t.Fatal(err)
				}
			} else {
				wantErr(t, err, tc.want, "http://127.0.0.1:")
			}
			if r, err := state.Current(); err != nil || r.Version(trust.RoleTargets) != now.Version(trust.RoleTargets) {
				t.Errorf("what was there before: %v", err)
			}
		})
	}
}

func TestNothingNewIsOneRequest(t *testing.T) {
	w := newWorld(t, 10)
	q := &requests{next: w.handler()}
	c, _ := client(t, quick(server(t, q).URL))
	state, err := trust.Open(trust.Config{Dir: t.TempDir(), Pinned: w.repo.Root().Raw()})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		q.all = nil
		r, err := state.Refresh(t.Context(), c.Upstreams()[0], trust.Clock{Now: day})
		if err := errors.Join(err, state.Commit(r)); err != nil {
			t.Fatal(err)
		}
	}
	if len(q.all) != 1 {
		t.Errorf("expected 1 request, got %q", q.all)
	}
}
