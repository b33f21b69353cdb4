package fetch

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/openpowerquality/box-update-server/update"
)

// hostile is an upstream that does one thing wrong. The archive has three blocks, of which the first is
// there already.
type hostile struct {
	name    string
	serve   func(a *archive, rw http.ResponseWriter, r *http.Request)
	want    error    // nil: everything comes nevertheless
	line    []string // in the error, or where that is nil in the state of the upstream
	missing []int
}

const hostileLength = 9*mib + 5

func TestHostileUpstreams(t *testing.T) {
	w := newWorld(t, hostileLength)
	a := w.archives[0]
	for _, tc := range hostileUpstreams(a) {
		t.Run(tc.name, func(t *testing.T) {
			s := server(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { tc.serve(a, rw, r) }))
			cfg := quick(s.URL)
			cfg.Patience, cfg.Redirects = -1, []string{"http://listed.invalid"}
			c, log := client(t, cfg)
			sink := sinkFor(a, 0)
			err := c.download(t.Context(), a.rel, a.blocks, sink, nil)
			sink.check(t, tc.missing...)
			if tc.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				checkParts(t, c.Upstreams()[0].State().Reason, tc.line)
				return
			}
			wantErr(t, err, tc.want, append(tc.line, s.URL+a.path())...)
			if strings.Count(err.Error(), "\n") != 0 || strings.Count(log.String(), "\n") != 1 {
				t.Errorf("expected one line, got %v and the log\n%v", err, log)
			}
		})
	}
}

func checkParts(t *testing.T, got string, parts []string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(got, p) {
			t.Errorf("expected %q in %q", p, got)
		}
	}
}

func hostileUpstreams(a *archive) []hostile {
	rest := hostileLength - update.BlockSize
	partial := func(rw http.ResponseWriter, contentRange string) {
		rw.Header().Set("Content-Range", contentRange)
		rw.WriteHeader(http.StatusPartialContent)
	}
	right := fmt.Sprintf("bytes %d-%d/%d", update.BlockSize, hostileLength-1, hostileLength)
	badRange := func(contentRange string) func(*archive, http.ResponseWriter, *http.Request) {
		return func(a *archive, rw http.ResponseWriter, _ *http.Request) {
			partial(rw, contentRange)
			rw.Write(a.data[update.BlockSize:])
		}
	}
	status := func(code int) func(*archive, http.ResponseWriter, *http.Request) {
		return func(_ *archive, rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(code) }
	}
	redirect := func(to string) func(*archive, http.ResponseWriter, *http.Request) {
		return func(_ *archive, rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, to+r.URL.Path, http.StatusFound)
		}
	}
	forged := bytes.Clone(a.data)
	forged[update.BlockSize] ^= 1
	wrongBlock := fmt.Sprintf("block 1: expected digest %v, got %v", a.blocks[1], update.Sum(forged[update.BlockSize:2*update.BlockSize]))
	both, last := []int{1, 2}, []int{2}

	return []hostile{
		{"wrong bytes", func(_ *archive, rw http.ResponseWriter, _ *http.Request) {
			partial(rw, right)
			rw.Write(forged[update.BlockSize:])
		}, ErrDamaged, []string{wrongBlock}, []int{1}},
		{"truncated body with a right Content-Length", func(a *archive, rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Length", fmt.Sprint(rest))
			partial(rw, right)
			rw.Write(a.data[update.BlockSize:][:update.BlockSize+100])
			panic(http.ErrAbortHandler)
		}, io.ErrUnexpectedEOF, []string{fmt.Sprintf("expected %d bytes, got %d", rest, update.BlockSize+100)}, last},
		{"truncated body without a length", func(a *archive, rw http.ResponseWriter, _ *http.Request) {
			partial(rw, right)
			rw.(http.Flusher).Flush()
			rw.Write(a.data[update.BlockSize:][:update.BlockSize+100])
		}, io.ErrUnexpectedEOF, []string{fmt.Sprintf("expected %d bytes, got %d", rest, update.BlockSize+100)}, last},
		{"endless body", func(a *archive, rw http.ResponseWriter, r *http.Request) {
			partial(rw, right)
			rw.Write(a.data[update.BlockSize:])
			for r.Context().Err() == nil {
				rw.Write(a.data)
			}
		}, nil, []string{fmt.Sprintf("expected %d bytes, got more", rest)}, nil},
		{"a length that is too large", func(_ *archive, rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Length", fmt.Sprint(rest+1))
			partial(rw, right)
		}, ErrRefused, []string{fmt.Sprintf("expected %d bytes, got Content-Length %d", rest, rest+1)}, both},
		{"200 to a range request", func(a *archive, rw http.ResponseWriter, _ *http.Request) {
			rw.Write(a.data)
		}, nil, nil, nil},
		{"200 to a range request with wrong bytes", func(_ *archive, rw http.ResponseWriter, _ *http.Request) {
			rw.Write(forged)
		}, ErrDamaged, []string{wrongBlock}, []int{1}},
		{"200 of another length", func(a *archive, rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Length", "100")
			rw.Write(a.data[:100])
		}, ErrDamaged, []string{fmt.Sprintf("expected %d bytes, got Content-Length 100", hostileLength)}, both},
		{"another range", badRange(fmt.Sprintf("bytes 0-%d/%d", rest-1, hostileLength)), ErrRefused,
			[]string{fmt.Sprintf("expected Content-Range %q, got", right)}, both},
		{"a range of something longer", badRange(right + "0"), ErrDamaged,
			[]string{fmt.Sprintf("expected Content-Range %q, got %q", right, right+"0")}, both},
		{"a range past its end", badRange(fmt.Sprintf("bytes %d-%d/%d", update.BlockSize, hostileLength, hostileLength)), ErrRefused,
			[]string{"expected a Content-Range such as"}, both},
		{"206 without a range", badRange(""), ErrRefused, []string{"expected a Content-Range such as"}, both},
		{"several ranges", func(_ *archive, rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", "multipart/byteranges; boundary=x")
			partial(rw, "")
			io.WriteString(rw, "--x\r\n")
		}, ErrRefused, []string{"expected a Content-Range such as"}, both},
		{"Content-Encoding on an archive", func(a *archive, rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(rw)
			z.Write(a.data)
			z.Close()
		}, ErrRefused, []string{`expected no Content-Encoding, got "gzip"`}, both},
		{"1 byte a minute", func(a *archive, rw http.ResponseWriter, r *http.Request) {
			partial(rw, right)
			rw.Write(a.data[update.BlockSize:][:1])
			rw.(http.Flusher).Flush()
			<-r.Context().Done()
		}, ErrStalled, []string{"expected 1000 bytes per second over 300ms, got "}, both},
		{"redirect to another host", redirect("http://elsewhere.invalid"), ErrRefused,
			[]string{"redirect to http://elsewhere.invalid:80: expected its own origin"}, both},
		{"redirect to another scheme", func(_ *archive, rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, "https://"+r.Host+r.URL.Path, http.StatusFound)
		}, ErrRefused, []string{"redirect to https://127.0.0.1:"}, both},
		{"redirect in a circle", redirect(""), ErrRefused, []string{"at most 5 redirects"}, both},
		{"403", status(http.StatusForbidden), ErrRefused, []string{"expected status 206, got 403"}, both},
		{"416", status(http.StatusRequestedRangeNotSatisfiable), ErrRefused, []string{"expected status 200, got 416"}, both},
		{"304 that nobody asked for", status(http.StatusNotModified), ErrRefused, []string{"expected status 206, got 304"}, both},
		{"204", status(http.StatusNoContent), ErrRefused, []string{"expected status 206, got 204"}, both},
		{"404", status(http.StatusNotFound), ErrNotFound, nil, both},
		{"500", status(http.StatusInternalServerError), ErrUnavailable, []string{"status 500"}, both},
	}
}

// An archive that is replaced while it is downloaded.
func TestOtherContentAfterResume(t *testing.T) {
	w := newWorld(t, hostileLength)
	a := w.archives[0]
	other := bytes.Repeat([]byte("x"), hostileLength)
	for name, resumed := range map[string]func(http.ResponseWriter, *http.Request){
		"whole, as If-Range asks for": func(rw http.ResponseWriter, r *http.Request) {
			if got := r.Header.Get("If-Range"); got != `"one"` {
				t.Errorf("If-Range: got %q", got)
			}
			rw.Write(other)
		},
		"in part": func(rw http.ResponseWriter, r *http.Request) {
			var first int
			fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &first)
			rw.Header().Set("Content-Range", byteRange{int64(first), hostileLength - 1, hostileLength}.String())
			rw.WriteHeader(http.StatusPartialContent)
			rw.Write(other[first:])
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := 0
			s := server(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if n++; n > 1 {
					resumed(rw, r)
					return
				}
				rw.Header().Set("ETag", `"one"`)
				rw.Header().Set("Content-Length", fmt.Sprint(hostileLength))
				rw.Write(a.data[:5*mib])
				panic(http.ErrAbortHandler)
			}))
			c, _ := client(t, quick(s.URL))
			sink := sinkFor(a)
			err := c.download(t.Context(), a.rel, a.blocks, sink, nil)
			wantErr(t, err, ErrRefused, s.URL+a.path(), "block 1: expected digest "+a.blocks[1].String())
			sink.check(t, 1, 2)
		})
	}
}

// A weak ETag says nothing about bytes.
func TestWeakETagIsNotUsed(t *testing.T) {
	w := newWorld(t, hostileLength)
	a := w.archives[0]
	n := 0
	s := server(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if got := r.Header.Values("If-Range"); len(got) > 0 {
			t.Errorf("If-Range: got %q", got)
		}
		rw.Header().Set("ETag", `W/"one"`)
		if n++; n == 1 {
			rw.Header().Set("Content-Length", fmt.Sprint(hostileLength))
			rw.Write(a.data[:5*mib])
			panic(http.ErrAbortHandler)
		}
		http.ServeContent(rw, r, "", day, bytes.NewReader(a.data))
	}))
	c, _ := client(t, quick(s.URL))
	sink := sinkFor(a)
	if err := c.download(t.Context(), a.rel, a.blocks, sink, nil); err != nil || n != 2 {
		t.Fatalf("%d requests, %v", n, err)
	}
	sink.check(t)
}

func TestRedirectToListedOrigin(t *testing.T) {
	w := newWorld(t, hostileLength)
	a := w.archives[0]
	to := server(t, w.handler())
	from := server(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, to.URL+r.URL.Path, http.StatusTemporaryRedirect)
	}))
	cfg := quick(from.URL)
	cfg.Redirects = []string{to.URL}
	c, _ := client(t, cfg)
	sink := sinkFor(a, 0)
	if err := c.download(t.Context(), a.rel, a.blocks, sink, nil); err != nil {
		t.Fatal(err)
	}
	sink.check(t)
}
