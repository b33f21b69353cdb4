package fetch

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"testing"

	"github.com/openpowerquality/box-update-server/update"
)

func checkFile(t *testing.T, f *os.File, want []byte) {
	t.Helper()
	got, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<40))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("expected %d bytes, got %d others, %v", len(want), len(got), err)
	}
}

func TestWhole(t *testing.T) {
	w := newWorld(t, hostileLength)
	a := w.archives[0]
	for _, there := range []int{0, 1, 5 * mib, hostileLength} {
		t.Run(fmt.Sprint(there), func(t *testing.T) {
			q := &requests{next: onlyTargets(w.handler())}
			c, log := client(t, quick(server(t, q).URL))
			f := tempFile(t, a.data[:there])
			blocks, err := c.whole(t.Context(), a.rel, f)
			if err != nil || !slices.Equal(blocks, a.blocks) {
				t.Fatal(err, log)
			}
			checkFile(t, f, a.data)
			if there > 0 && there < hostileLength {
				want := fmt.Sprintf("/targets/%v.%v bytes=%d-%d", a.rel.Digest(), a.rel.Name(), there, hostileLength-1)
				if got := q.list(); got[len(got)-1] != want {
					t.Errorf("expected %q, got %q", want, got)
				}
			}
		})
	}
}

// What was there before is dropped where it doesn't fit, and nobody is blamed for it.
func TestWholeWithWrongBeginning(t *testing.T) {
	w := newWorld(t, hostileLength)
	a := w.archives[0]
	for name, there := range map[string][]byte{"shorter": []byte("wrong"), "as long": make([]byte, hostileLength), "longer": make([]byte, hostileLength+1)} {
		t.Run(name, func(t *testing.T) {
			c, _ := client(t, quick(server(t, w.handler()).URL))
			f := tempFile(t, there)
			if _, err := c.whole(t.Context(), a.rel, f); err != nil {
				t.Fatal(err)
			}
			checkFile(t, f, a.data)
			if s := c.Upstreams()[0].State(); s != (State{}) {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestWholeFromLiar(t *testing.T) {
	w := newWorld(t, hostileLength)
	a := w.archives[0]
	liar := server(t, wrong(a, 1, w.handler()))
	c, _ := client(t, quick(liar.URL))
	f := tempFile(t, nil)
	_, err := c.whole(t.Context(), a.rel, f)
	wantErr(t, err, ErrRefused, liar.URL+a.path(), "expected digest "+a.rel.Digest().String()+", got ")
	checkFile(t, f, nil)

	c, _ = client(t, quick(liar.URL, server(t, w.handler()).URL))
	if _, err := c.whole(t.Context(), a.rel, f); err != nil {
		t.Fatal(err)
	}
	checkFile(t, f, a.data)
}

// A part by one upstream, the rest by another: nobody can tell whose fault it is until one sends it all.
func TestWholeFromLiarAndHonest(t *testing.T) {
	w := newWorld(t, hostileLength)
	a := w.archives[0]
	q := &requests{next: w.handler()}
	n := 0
	liar := server(t, http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		if n++; n > 1 {
			rw.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		rw.Header().Set("Content-Length", fmt.Sprint(hostileLength))
		rw.Write(make([]byte, 5*mib))
		panic(http.ErrAbortHandler)
	}))
	honest := server(t, q)
	c, _ := client(t, quick(liar.URL, honest.URL))
	f := tempFile(t, nil)
	if _, err := c.whole(t.Context(), a.rel, f); err != nil {
		t.Fatal(err)
	}
	checkFile(t, f, a.data)
	if got := q.list(); len(got) != 2 || got[1] != a.path() {
		t.Errorf("expected a rest and a whole archive, got %q", got)
	}
	if s := c.Upstreams()[1].State(); s != (State{}) {
		t.Errorf("the honest one: %+v", s)
	}
}

// Once parts did not fit, an archive comes from one upstream from its start to its end.
func TestWholeStartsOverWithEachUpstream(t *testing.T) {
	w := newWorld(t, hostileLength)
	a := w.archives[0]
	part := func(rw http.ResponseWriter, b []byte) {
		rw.Header().Set("Content-Length", fmt.Sprint(hostileLength))
		rw.Write(b)
		panic(http.ErrAbortHandler)
	}
	var one, two int
	var last string
	first := server(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		one++
		switch {
		case one == 1:
			part(rw, make([]byte, 5*mib))
		case two < 3:
			rw.WriteHeader(http.StatusServiceUnavailable)
		default:
			last = r.Header.Get("Range")
			a.serve(rw, r)
		}
	}))
	second := server(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		two++
		switch two {
		case 1:
			a.serve(rw, r)
		case 2:
			part(rw, a.data[:2*mib])
		default:
			rw.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	c, log := client(t, quick(first.URL, second.URL))
	f := tempFile(t, nil)
	if _, err := c.whole(t.Context(), a.rel, f); err != nil {
		t.Fatal(err, log)
	}
	checkFile(t, f, a.data)
	if last != "" {
		t.Errorf("the first upstream went on with what the second sent: %q", last)
	}
}

// An upstream without ranges that is cut: what came is skipped the next time.
func TestWithoutRanges(t *testing.T) {
	w := newWorld(t, hostileLength)
	a := w.archives[0]
	var cuts []int
	s := server(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Length", fmt.Sprint(hostileLength))
		if len(cuts) == 0 {
			rw.Write(a.data)
			return
		}
		cut := cuts[0]
		cuts = cuts[1:]
		rw.Write(a.data[:cut])
		panic(http.ErrAbortHandler)
	}))
	c, _ := client(t, quick(s.URL))

	cuts = []int{3 * mib, 5 * mib}
	sink := sinkFor(a)
	if err := c.download(t.Context(), a.rel, a.blocks, sink, nil); err != nil {
		t.Fatal(err)
	}
	sink.check(t)

	cuts = []int{3 * mib, 5 * mib}
	f := tempFile(t, nil)
	if _, err := c.whole(t.Context(), a.rel, f); err != nil {
		t.Fatal(err)
	}
	checkFile(t, f, a.data)
}

func TestWholeEndless(t *testing.T) {
	w := newWorld(t, hostileLength)
	a := w.archives[0]
	s := server(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			rw.Write(a.data)
		}
	}))
	c, _ := client(t, quick(s.URL))
	f := tempFile(t, nil)
	blocks, err := c.whole(t.Context(), a.rel, f)
	if err != nil || update.Sum(blocks.Bytes()) != a.rel.Blocks() {
		t.Fatal(err)
	}
	checkFile(t, f, a.data)
	if s := c.Upstreams()[0].State(); !s.Refused {
		t.Errorf("%+v", s)
	}
}

func TestWholeReportsTheDisk(t *testing.T) {
	w := newWorld(t, hostileLength)
	a := w.archives[0]
	q := &requests{next: w.handler()}
	c, _ := client(t, quick(server(t, q).URL))
	f := tempFile(t, nil)
	readOnly, err := os.Open(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer readOnly.Close()
	_, err = c.whole(t.Context(), a.rel, readOnly)
	var disk *os.PathError
	if !errors.As(err, &disk) || len(q.list()) != 1 {
		t.Errorf("%v after %q", err, q.list())
	}
}

// A server that refuses ranges, rather than to ignore them, has the whole archive all the same.
func TestRangesRefused(t *testing.T) {
	w := newWorld(t, hostileLength)
	a := w.archives[0]
	for _, code := range []int{http.StatusRequestedRangeNotSatisfiable, http.StatusNotImplemented} {
		honest := w.handler()
		s := server(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" {
				rw.WriteHeader(code)
				return
			}
			honest.ServeHTTP(rw, r)
		}))
		c, log := client(t, quick(s.URL))
		sink := sinkFor(a, 0)
		if err := c.download(t.Context(), a.rel, a.blocks, sink, nil); err != nil {
			t.Fatal(err)
		}
		sink.check(t)
		f := tempFile(t, a.data[:5*mib])
		if _, err := c.whole(t.Context(), a.rel, f); err != nil {
			t.Fatal(err)
		}
		checkFile(t, f, a.data)
		if log.String() != "" {
			t.Errorf("%d: %v", code, log)
		}
	}
}
