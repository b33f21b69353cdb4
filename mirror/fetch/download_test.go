package fetch

import (
	"context"
	"errors"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

const mib = 1 << 20

func TestDownloadAsksForRunsOfMissingBlocks(t *testing.T) {
	w := newWorld(t, 18*mib+5) // blocks 0 to 4
	a := w.archives[0]
	for _, tc := range []struct {
		name string
		have []int
		want []string
	}{
		{"nothing is there", nil, []string{""}},
		{"the first is", []int{0}, []string{" bytes=4194304-18874372"}},
		{"the middle is", []int{2}, []string{" bytes=0-8388607", " bytes=12582912-18874372"}},
		{"the last is", []int{4}, []string{" bytes=0-16777215"}},
		{"everything is", []int{0, 1, 2, 3, 4}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q := &requests{next: w.handler()}
			c, log := client(t, quick(server(t, q).URL))
			sink := sinkFor(a, tc.have...)
			if err := c.Download(t.Context(), a.rel, a.blocks, sink); err != nil {
				t.Fatal(err)
			}
			sink.check(t)
			var want []string
			for _, r := range tc.want {
				want = append(want, a.path()+r)
			}
			if got := q.list(); !slices.Equal(got, want) {
				t.Errorf("expected %q, got %q", want, got)
			}
			if log.String() != "" {
				t.Error(log)
			}
		})
	}
}

func TestDownloadOfNothing(t *testing.T) {
	w := newWorld(t, 0, 7)
	c, _ := client(t, quick("http://127.0.0.1:1/nobody/listens"))
	for _, a := range w.archives {
		blocks, err := c.Blocks(t.Context(), a.rel)
		if err != nil || !slices.Equal(blocks, a.blocks) {
			t.Errorf("%d bytes: %v, %v", len(a.data), blocks, err)
		}
	}
	a := w.archives[0]
	if err := c.Download(t.Context(), a.rel, a.blocks, sinkFor(a)); err != nil {
		t.Error(err)
	}
	if err := c.Download(t.Context(), trust.Release{}, nil, sinkFor(a)); !errors.Is(err, errNoRelease) {
		t.Error(err)
	}
}

func TestBlocks(t *testing.T) {
	w := newWorld(t, 9*mib)
	a := w.archives[0]
	c, _ := client(t, quick(server(t, http.StripPrefix("/some/path", w.handler())).URL+"/some/path/"))
	blocks, err := c.Blocks(t.Context(), a.rel)
	if err != nil || !slices.Equal(blocks, a.blocks) {
		t.Fatalf("%v, %v", blocks, err)
	}
}

// wrong serves an archive of which one byte of that block is wrong.
func wrong(a *archive, block int, next http.Handler) http.Handler {
	data := slices.Clone(a.data)
	data[block*update.BlockSize+17] ^= 1
	forged := &archive{a.rel, data, a.blocks}
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == a.path() {
			forged.serve(rw, r)
			return
		}
		next.ServeHTTP(rw, r)
	})
}

func TestFailoverGoesOnWithTheBlock(t *testing.T) {
	w := newWorld(t, 14*mib)
	a := w.archives[0]
	liar := server(t, wrong(a, 2, w.handler()))
	q := &requests{next: w.handler()}
	honest := server(t, q)
	c, log := client(t, quick(liar.URL, honest.URL))
	sink := sinkFor(a)
	if err := c.Download(t.Context(), a.rel, a.blocks, sink); err != nil {
		t.Fatal(err)
	}
	sink.check(t)
	if got, want := q.list(), []string{a.path() + " bytes=8388608-14680063"}; !slices.Equal(got, want) {
		t.Errorf("expected %q, got %q", want, got)
	}
	s := c.Upstreams()[0].State()
	if !s.Refused || !strings.Contains(s.Reason, liar.URL) || !strings.Contains(log.String(), "block 2: expected digest "+a.blocks[2].String()+", got ") {
		t.Errorf("%+v\n%v", s, log)
	}
	if s := c.Upstreams()[1].State(); s != (State{}) {
		t.Errorf("the honest one: %+v", s)
	}
}

// A block never comes from two upstreams: whoever is blamed for it sent all of it.
func TestFailoverDropsThePartOfABlock(t *testing.T) {
	w := newWorld(t, 9*mib)
	a := w.archives[0]
	n := 0
	liar := server(t, http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		if n++; n > 1 {
			rw.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		rw.Header().Set("Content-Length", strconv.Itoa(len(a.data)))
		rw.Write(a.data[:update.BlockSize])
		rw.Write(make([]byte, mib))
		panic(http.ErrAbortHandler)
	}))
	q := &requests{next: w.handler()}
	c, _ := client(t, quick(liar.URL, server(t, q).URL))
	sink := sinkFor(a)
	if err := c.Download(t.Context(), a.rel, a.blocks, sink); err != nil {
		t.Fatal(err)
	}
	sink.check(t)
	if got, want := q.list(), []string{a.path() + " bytes=4194304-9437183"}; !slices.Equal(got, want) {
		t.Errorf("expected %q, got %q", want, got)
	}
}

func TestBlocksFromLiar(t *testing.T) {
	w := newWorld(t, 9*mib)
	a := w.archives[0]
	for name, list := range map[string][]byte{
		"wrong":   append(a.blocks[:2].Bytes(), make([]byte, 32)...),
		"shorter": a.blocks[:2].Bytes(),
		"longer":  append(a.blocks.Bytes(), 0),
	} {
		t.Run(name, func(t *testing.T) {
			liar := server(t, http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.Write(list) }))
			c, _ := client(t, quick(liar.URL, server(t, w.handler()).URL))
			blocks, err := c.Blocks(t.Context(), a.rel)
			if err != nil || !slices.Equal(blocks, a.blocks) {
				t.Fatal(err)
			}
			if s := c.Upstreams()[0].State(); !s.Refused || !strings.Contains(s.Reason, liar.URL+a.path()+".blocks: refused: expected ") {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestAllUpstreamsBad(t *testing.T) {
	w := newWorld(t, 9*mib)
	a := w.archives[0]
	one, two := server(t, wrong(a, 1, w.handler())), server(t, wrong(a, 1, w.handler()))
	three := server(t, http.NotFoundHandler())
	c, _ := client(t, quick(one.URL, two.URL, three.URL))
	sink := sinkFor(a)
	err := c.Download(t.Context(), a.rel, a.blocks, sink)
	wantErr(t, err, ErrRefused, one.URL+a.path(), two.URL+a.path(), three.URL+a.path())
	wantErr(t, err, ErrNotFound)
	sink.check(t, 1, 2)

	// They stay aside.
	err = c.Download(t.Context(), a.rel, a.blocks, sink)
	wantErr(t, err, ErrRefused, "not asked before")
}

func TestSinkErrorIsReturnedAtOnce(t *testing.T) {
	w := newWorld(t, 9*mib)
	a := w.archives[0]
	q := &requests{next: w.handler()}
	s := server(t, q)
	c, _ := client(t, quick(s.URL, s.URL+"/other"))
	sink := sinkFor(a)
	sink.fail = 1
	wantErr(t, c.Download(t.Context(), a.rel, a.blocks, sink), errSink)
	sink.check(t, 1, 2)
	if n := len(q.list()); n != 1 {
		t.Errorf("expected 1 request, got %d", n)
	}
	if s := c.Upstreams()[0].State(); s != (State{}) {
		t.Errorf("the upstream is blamed: %+v", s)
	}
}

func TestPlainServerByTargetPath(t *testing.T) {
	w := newWorld(t, 9*mib)
	a := w.archives[0]
	c, log := client(t, quick(server(t, onlyTargets(w.handler())).URL))
	_, err := c.Blocks(t.Context(), a.rel)
	wantErr(t, err, ErrNotFound, ".blocks")
	sink := sinkFor(a, 0)
	if err := c.Download(t.Context(), a.rel, a.blocks, sink); err != nil {
		t.Fatal(err, log)
	}
	sink.check(t)
}

func onlyTargets(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/sha256/") {
			http.NotFound(rw, r)
			return
		}
		next.ServeHTTP(rw, r)
	})
}

func TestFiftyAtOnce(t *testing.T) {
	lengths := make([]int, 50)
	for i := range lengths {
		lengths[i] = 100_000 + i
	}
	lengths[7] = 9 * mib
	w := newWorld(t, lengths...)
	q := &requests{next: w.handler()}
	cfg := quick(server(t, q).URL)
	var mu sync.Mutex
	done := map[update.Digest]int64{}
	cfg.Progress = func(rel trust.Release, n int64) {
		mu.Lock()
		defer mu.Unlock()
		done[rel.Digest()] = max(done[rel.Digest()], n)
	}
	c, _ := client(t, cfg)
	var g errgroup.Group
	for _, a := range w.archives {
		g.Go(func() error {
			sink := sinkFor(a)
			defer sink.check(t)
			return c.Download(t.Context(), a.rel, a.blocks, sink)
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if n := len(q.list()); n != 50 {
		t.Errorf("expected 50 requests, got %d", n)
	}
	for _, a := range w.archives {
		if got := done[a.rel.Digest()]; got != a.rel.Length() {
			t.Errorf("progress: expected %d, got %d", a.rel.Length(), got)
		}
	}
}

func TestDownloadEndsWithItsContext(t *testing.T) {
	w := newWorld(t, 9*mib)
	a := w.archives[0]
	ctx, cancel := context.WithCancel(t.Context())
	s := server(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Write(a.data[:5*mib])
		cancel()
		<-r.Context().Done()
	}))
	c, _ := client(t, quick(s.URL))
	wantErr(t, c.Download(ctx, a.rel, a.blocks, sinkFor(a)), context.Canceled)
	if s := c.Upstreams()[0].State(); s != (State{}) {
		t.Errorf("the upstream is blamed: %+v", s)
	}
}

func TestUpstreamThatDoesNotListen(t *testing.T) {
	w := newWorld(t, 9*mib)
	a := w.archives[0]
	gone := server(t, w.handler())
	gone.Close()
	c, _ := client(t, quick(gone.URL, server(t, w.handler()).URL))
	sink := sinkFor(a)
	if err := c.Download(t.Context(), a.rel, a.blocks, sink); err != nil {
		t.Fatal(err)
	}
	sink.check(t)

	cfg := quick(gone.URL)
	cfg.Patience = -1
	c, _ = client(t, cfg)
	wantErr(t, c.Download(t.Context(), a.rel, a.blocks, sinkFor(a)), ErrUnavailable, gone.URL+a.path(), "connection refused")
}

func tempFile(t testing.TB, content []byte) *os.File {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "whole")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.Write(content); err != nil {
		t.Fatal(err)
	}
	return f
}
