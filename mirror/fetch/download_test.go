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
			if err := c.download(t.Context(), a.rel, a.blocks, sink, nil); err != nil {
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
		blocks, err := c.blockList(t.Context(), a.rel)
		if err != nil || !slices.Equal(blocks, a.blocks) {
			t.Errorf("%d bytes: %v, %v", len(a.data), blocks, err)
		}
	}
	a := w.archives[0]
	if err := c.download(t.Context(), a.rel, a.blocks, sinkFor(a), nil); err != nil {
		t.Error(err)
	}
	if err := c.download(t.Context(), trust.Release{}, nil, sinkFor(a), nil); !errors.Is(err, errNoRelease) {
		t.Error(err)
	}
}

func TestBlocks(t *testing.T) {
	w := newWorld(t, 9*mib)
	a := w.archives[0]
	c, _ := client(t, quick(server(t, http.StripPrefix("/some/path", w.handler())).URL+"/some/path/"))
	blocks, err := c.blockList(t.Context(), a.rel)
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
	if err := c.download(t.Context(), a.rel, a.blocks, sink, nil); err != nil {
		t.Fatal(err)
	}
	sink.check(t)
	if got, want := q.list(), []string{a.path() + " bytes=8388608-12582911"}; !slices.Equal(got, want) {
		t.Errorf("expected %q, got %q", want, got)
	}
	checkParts(t, log.String(), []string{liar.URL, a.rel.Name().String(), "block 2: expected digest " + a.blocks[2].String() + ", got "})
	for _, u := range c.Upstreams() {
		if s := u.State(); s != (State{}) {
			t.Errorf("%v: %+v", u, s)
		}
	}
}

// Each has another block wrong: both are used, and nothing is missing.
func TestUpstreamsMendEachOther(t *testing.T) {
	w := newWorld(t, 14*mib)
	a := w.archives[0]
	c, _ := client(t, quick(server(t, wrong(a, 0, w.handler())).URL, server(t, wrong(a, 3, w.handler())).URL))
	sink := sinkFor(a)
	if err := c.download(t.Context(), a.rel, a.blocks, sink, nil); err != nil {
		t.Fatal(err)
	}
	sink.check(t)
}

// forged serves archives of which nothing is right.
func forged(next http.Handler, archives ...*archive) http.Handler {
	for _, a := range archives {
		zeros := &archive{a.rel, make([]byte, len(a.data)), a.blocks}
		inner := next
		next = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path == a.path() {
				zeros.serve(rw, r)
				return
			}
			inner.ServeHTTP(rw, r)
		})
	}
	return next
}

// An upstream that has everything wrong costs a few blocks of a few archives, and is then asked last.
func TestWrongBlocksAreBounded(t *testing.T) {
	w := newWorld(t, 5*update.BlockSize, 2, 3, 4)
	q := &requests{next: forged(w.handler(), w.archives...)}
	cfg := quick(server(t, q).URL, server(t, w.handler()).URL)
	var told []error
	cfg.Refused = func(err error) { told = append(told, err) }
	c, log := client(t, cfg)
	hostile := c.Upstreams()[0]
	var blocks []int
	for i, a := range w.archives {
		sink := sinkFor(a)
		if err := c.download(t.Context(), a.rel, a.blocks, sink, nil); err != nil {
			t.Fatal(err)
		}
		sink.check(t)
		blocks = append(blocks, len(told))
		if last := !hostile.State().Damaged.IsZero(); last != (i >= maxSpoilt-1) {
			t.Errorf("after %d archives: asked last: %v", i+1, last)
		}
	}
	if want := []int{maxWrong, maxWrong + 1, maxWrong + 2, maxWrong + 2}; !slices.Equal(blocks, want) {
		t.Errorf("expected wrong blocks %v, got %v", want, blocks)
	}
	if n := len(q.list()); n != 3 {
		t.Errorf("expected 3 requests, got %q", q.list())
	}
	checkParts(t, log.String(), []string{"several archives are damaged"})
	if first := c.First(); first == nil || first == hostile {
		t.Errorf("expected requests redirected to the honest one, got %v", first)
	}
}

// Who has nobody else to ask gets all that is right.
func TestSoleUpstreamStaysUsable(t *testing.T) {
	w := newWorld(t, 1, 2, 3, 4, 9*mib)
	h := forged(w.handler(), w.archives[:4]...)
	cut := w.archives[4] // and has a block list that is cut
	c, _ := client(t, quick(server(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == cut.path()+".blocks" {
			rw.Write(cut.blocks[:1].Bytes())
			return
		}
		h.ServeHTTP(rw, r)
	})).URL))
	for _, a := range w.archives[:4] {
		wantErr(t, c.download(t.Context(), a.rel, a.blocks, sinkFor(a), nil), ErrDamaged, a.rel.Name().String())
	}
	_, err := c.blockList(t.Context(), cut.rel)
	wantErr(t, err, ErrDamaged)
	sink := sinkFor(cut)
	if err := c.download(t.Context(), cut.rel, cut.blocks, sink, nil); err != nil {
		t.Fatal(err)
	}
	sink.check(t)
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
	if err := c.download(t.Context(), a.rel, a.blocks, sink, nil); err != nil {
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
			c, log := client(t, quick(liar.URL, server(t, w.handler()).URL))
			blocks, err := c.blockList(t.Context(), a.rel)
			if err != nil || !slices.Equal(blocks, a.blocks) {
				t.Fatal(err)
			}
			// What is shorter or wrong is what a disk makes of it; what is longer never was a block list.
			if s := c.Upstreams()[0].State(); s.Refused != (name == "longer") || !strings.Contains(log.String(), liar.URL+a.path()+".blocks: refused: ") {
				t.Errorf("%+v\n%v", s, log)
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
	err := c.download(t.Context(), a.rel, a.blocks, sink, nil)
	wantErr(t, err, ErrRefused, one.URL+a.path(), two.URL+a.path(), three.URL+a.path())
	wantErr(t, err, ErrNotFound)
	sink.check(t, 1)

	// The next call asks them again, for that block alone.
	before := c.received()
	err = c.download(t.Context(), a.rel, a.blocks, sink, nil)
	wantErr(t, err, ErrDamaged, one.URL+a.path(), two.URL+a.path())
	if got := c.received() - before; got != 2*update.BlockSize {
		t.Errorf("expected 2 blocks, got %d bytes", got)
	}
}

func TestSinkErrorIsReturnedAtOnce(t *testing.T) {
	w := newWorld(t, 9*mib)
	a := w.archives[0]
	q := &requests{next: w.handler()}
	s := server(t, q)
	c, _ := client(t, quick(s.URL, s.URL+"/other"))
	sink := sinkFor(a)
	sink.fail = 1
	wantErr(t, c.download(t.Context(), a.rel, a.blocks, sink, nil), errSink)
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
	_, err := c.blockList(t.Context(), a.rel)
	wantErr(t, err, ErrNotFound, ".blocks")
	sink := sinkFor(a, 0)
	if err := c.download(t.Context(), a.rel, a.blocks, sink, nil); err != nil {
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
			return c.download(t.Context(), a.rel, a.blocks, sink, nil)
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
	wantErr(t, c.download(ctx, a.rel, a.blocks, sinkFor(a), nil), context.Canceled)
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
	if err := c.download(t.Context(), a.rel, a.blocks, sink, nil); err != nil {
		t.Fatal(err)
	}
	sink.check(t)

	cfg := quick(gone.URL)
	cfg.Patience = -1
	c, _ = client(t, cfg)
	wantErr(t, c.download(t.Context(), a.rel, a.blocks, sinkFor(a), nil), ErrUnavailable, gone.URL+a.path(), "connection refused")
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
