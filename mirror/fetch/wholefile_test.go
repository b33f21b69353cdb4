package fetch

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/update"
)

// days is a budget of so many bytes.
type days struct{ left, spent, here int64 }

var errOver = errors.New("over")

func (d *days) Left() int64 { return d.left }

func (d *days) Spend(bytes, here int64) error {
	d.left, d.spent, d.here = d.left-bytes, d.spent+bytes, here
	return nil
}

func (d *days) Over(need int64) error { return fmt.Errorf("%w by %d", errOver, need) }

// plainFile serves an archive under its name alone.
func plainFile(a *archive, ranges bool) *requests {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /update/", func(rw http.ResponseWriter, r *http.Request) {
		if !ranges {
			r.Header.Del("Range")
		}
		a.serve(rw, r)
	})
	return &requests{next: mux}
}

// TestWholeFileOfUnknownLength: the server tells how long it is, before a byte comes, and that may be refused.
func TestWholeFileOfUnknownLength(t *testing.T) {
	w := newWorld(t, 5*mib)
	a := w.archives[0]
	for _, there := range []int{0, 100} {
		c, _ := client(t, quick(server(t, plainFile(a, true)).URL))
		f, told := tempFile(t, a.data[:there]), int64(0)
		what := File{Name: a.rel.Name(), Length: -1, Paths: []string{"update/x"}, Begin: func(n int64) error { told = n; return nil }}
		if _, _, err := c.WholeFile(t.Context(), what, f); err != nil || told != 5*mib {
			t.Fatalf("%d there: told %d, %v", there, told, err)
		}
		checkFile(t, f, a.data)

		what.Begin = func(int64) error { return errSink }
		f = tempFile(t, a.data[:there])
		if _, _, err := c.WholeFile(t.Context(), what, f); !errors.Is(err, errSink) {
			t.Errorf("%d there: got %v", there, err)
		}
		checkFile(t, f, a.data[:there])
	}
	c, _ := client(t, quick(server(t, plainFile(a, true)).URL))
	what := File{Name: a.rel.Name(), Digest: update.Sum(nil), Length: -1, Paths: []string{"update/x"}}
	_, _, err := c.WholeFile(t.Context(), what, tempFile(t, nil))
	wantErr(t, err, ErrDamaged, "expected digest")
}

// TestWholeFileWithinBudget: it comes in parts, as the budget has it, and none of its bytes twice.
func TestWholeFileWithinBudget(t *testing.T) {
	w := newWorld(t, 9*mib)
	a := w.archives[0]
	for _, length := range []int64{9 * mib, -1} {
		q := plainFile(a, true)
		c, _ := client(t, quick(server(t, q).URL))
		b, f := &days{}, tempFile(t, nil)
		what := File{Name: a.rel.Name(), Length: length, Paths: []string{"update/x"}, Budget: b}
		for day := int64(1); ; day++ {
			b.left = 4 * mib
			_, _, err := c.WholeFile(t.Context(), what, f)
			if err == nil {
				break
			}
			if wantErr(t, err, errOver, "over by "); b.spent != 4*mib*day || b.here != b.spent || b.left != 0 {
				t.Fatalf("day %d: %+v", day, *b)
			}
		}
		checkFile(t, f, a.data)
		if b.spent != 9*mib {
			t.Errorf("%d bytes were counted", b.spent)
		}
		want := []string{"/update/x bytes=0-4194303", "/update/x bytes=4194304-8388607", "/update/x bytes=8388608-"}
		for i, got := range q.list() {
			if i >= len(want) || !strings.HasPrefix(got, want[i]) {
				t.Errorf("asked %q", q.list())
			}
		}
	}

	// A server without ranges sends nothing that would have to come again.
	c, _ := client(t, quick(server(t, plainFile(a, false)).URL))
	b := &days{left: 4 * mib}
	_, _, err := c.WholeFile(t.Context(), File{Name: a.rel.Name(), Length: 9 * mib, Paths: []string{"update/x"}, Budget: b}, tempFile(t, nil))
	wantErr(t, err, errOver, "only the whole")
	if b.spent != 0 {
		t.Errorf("%d bytes were counted", b.spent)
	}
}

// TestWholeFileAnew: a server that replaces a file in the middle of its download gives no mix of both.
func TestWholeFileAnew(t *testing.T) {
	first, second := archiveOf(1, 3*mib), archiveOf(2, 2*mib)
	asked := 0
	up := server(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") != "" {
			t.Errorf("asked for range %q", r.Header.Get("Range"))
		}
		a, length := second, 2*mib
		if asked++; asked == 1 {
			a, length = first, 1*mib
		}
		rw.Header().Set("Content-Length", fmt.Sprint(len(a.data)))
		rw.Write(a.data[:length])
	}))
	c, _ := client(t, quick(up.URL))
	var lengths []int64
	what := File{Name: update.Name{}, Length: -1, Paths: []string{"update/x"}, Anew: true, Begin: func(n int64) error {
		lengths = append(lengths, n)
		return nil
	}}
	f := tempFile(t, nil)
	digest, blocks, err := c.WholeFile(t.Context(), what, f)
	if err != nil || digest != update.Sum(second.data) || len(blocks) != 1 || fmt.Sprint(lengths) != fmt.Sprint([]int64{3 * mib, 2 * mib}) {
		t.Fatalf("lengths %v, digest %v, %d blocks, %v", lengths, digest, len(blocks), err)
	}
	checkFile(t, f, second.data)
}

// withoutRanges serves data, all of it each time.
func withoutRanges(data []byte) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		r.Header.Del("Range")
		http.ServeContent(rw, r, "", time.Time{}, bytes.NewReader(data))
	}
}

// TestWholeFileIsThereAlready: a whole archive without a known digest, which waits to be installed, does not come again.
func TestWholeFileIsThereAlready(t *testing.T) {
	a := archiveOf(1, 3*mib)
	for name, h := range map[string]http.Handler{
		"ranges": http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			http.ServeContent(rw, r, "", time.Time{}, bytes.NewReader(a.data))
		}),
		"no ranges": withoutRanges(a.data),
		"a longer one first": func() http.HandlerFunc {
			asked := 0
			return func(rw http.ResponseWriter, r *http.Request) {
				if asked++; asked > 1 {
					withoutRanges(a.data)(rw, r)
					return
				}
				rw.Header().Set("Content-Range", "bytes 3145728-4194303/8388608")
				rw.Header().Set("Content-Length", "1048576")
				rw.WriteHeader(http.StatusPartialContent)
				rw.(http.Flusher).Flush()
				panic(http.ErrAbortHandler)
			}
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			q := &requests{next: h}
			c, _ := client(t, quick(server(t, q).URL))
			f, b, begun := tempFile(t, a.data), &days{left: mib}, int64(0)
			what := File{Length: -1, Paths: []string{"update/x"}, Budget: b, Begin: func(n int64) error { begun = n; return nil }}
			digest, _, err := c.WholeFile(t.Context(), what, f)
			if err != nil || digest != update.Sum(a.data) || begun != 3*mib {
				t.Errorf("digest %v, %d bytes to begin with, %v", digest, begun, err)
			}
			if got := c.Upstreams()[0].Received(); got != 0 || b.spent != 0 || len(q.list()) > 2 {
				t.Errorf("received %d bytes, counted %d, after %q", got, b.spent, q.list())
			}
			if s := c.Upstreams()[0].State(); s.Refused {
				t.Errorf("%+v", s)
			}
			checkFile(t, f, a.data)
		})
	}
}

// TestWholeFileCountsWhatComesAgain: bytes that a server without ranges repeats count in the budget.
func TestWholeFileCountsWhatComesAgain(t *testing.T) {
	a := archiveOf(1, 9*mib)
	c, _ := client(t, quick(server(t, withoutRanges(a.data)).URL))
	f, b := tempFile(t, a.data[:8*mib]), &days{left: 20 * mib}
	what := File{Digest: update.Sum(a.data), Length: 9 * mib, Paths: []string{"update/x"}, Budget: b}
	if _, _, err := c.WholeFile(t.Context(), what, f); err != nil || b.spent != 9*mib || b.here != 9*mib {
		t.Errorf("counted %d bytes, %d here, %v", b.spent, b.here, err)
	}
	checkFile(t, f, a.data)
}

// TestWholeFileReplaced: if a server replaces an archive without a known digest, no mix of both files comes.
func TestWholeFileReplaced(t *testing.T) {
	first, second := archiveOf(1, 3*mib), archiveOf(2, 2*mib)
	check := func(t *testing.T, h http.Handler, there []byte, want ...int64) {
		c, _ := client(t, quick(server(t, h).URL))
		f, lengths := tempFile(t, there), []int64(nil)
		what := File{Length: -1, Paths: []string{"update/x"}, Begin: func(n int64) error { lengths = append(lengths, n); return nil }}
		digest, _, err := c.WholeFile(t.Context(), what, f)
		if err != nil || digest != update.Sum(second.data) || fmt.Sprint(lengths) != fmt.Sprint(want) {
			t.Errorf("lengths %d, digest %v, %v", lengths, digest, err)
		}
		checkFile(t, f, second.data)
	}
	t.Run("before the call", func(t *testing.T) {
		check(t, withoutRanges(second.data), first.data[:mib], 2*mib)
	})
	t.Run("in the call", func(t *testing.T) {
		asked := 0
		check(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if asked++; asked == 1 {
				rw.Header().Set("ETag", `"one"`)
				rw.Header().Set("Content-Length", fmt.Sprint(len(first.data)))
				rw.Write(first.data[:mib])
				return
			}
			if got := r.Header.Get("If-Range"); got != `"one"` {
				t.Errorf("If-Range is %q", got)
			}
			rw.Header().Set("ETag", `"two"`)
			http.ServeContent(rw, r, "", time.Time{}, bytes.NewReader(second.data))
		}), nil, 3*mib, 2*mib)
	})
	t.Run("by a file of the length that came", func(t *testing.T) {
		asked := 0
		check(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if asked++; asked == 1 {
				rw.Header().Set("Content-Length", fmt.Sprint(len(first.data)))
				rw.Write(first.data[:2*mib])
				return
			}
			withoutRanges(second.data)(rw, r)
		}), nil, 3*mib, 2*mib)
	})

	// The part stays if the budget has no room for the whole.
	c, _ := client(t, quick(server(t, withoutRanges(second.data)).URL))
	f := tempFile(t, first.data[:mib])
	_, _, err := c.WholeFile(t.Context(), File{Length: -1, Paths: []string{"update/x"}, Budget: &days{left: mib}}, f)
	wantErr(t, err, errOver, "only the whole")
	checkFile(t, f, first.data[:mib])
}

// TestWholeFileFromItsStart: a server that sends a little more each time, always from the first byte, is not asked for
// ever.
func TestWholeFileFromItsStart(t *testing.T) {
	const most = 32
	a := archiveOf(1, most*32<<10)
	for _, anew := range []bool{true, false} {
		asked := 0
		c, _ := client(t, quick(server(t, http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			asked++
			rw.Header().Set("Content-Length", fmt.Sprint(len(a.data)))
			rw.Write(a.data[:min(asked, most)*32<<10])
		})).URL))
		_, _, err := c.WholeFile(t.Context(), File{Length: -1, Paths: []string{"update/x"}, Anew: anew}, tempFile(t, nil))
		if wantErr(t, err, ErrUnavailable, "the connection was cut"); asked > 11 {
			t.Errorf("anew %v: asked %d times", anew, asked)
		}
	}
}

// TestWholeFileLongerThanTheArchive: a file that is too long is emptied before Begin decides whether there is room.
func TestWholeFileLongerThanTheArchive(t *testing.T) {
	a := archiveOf(1, mib)
	q := &requests{next: withoutRanges(a.data)}
	c, _ := client(t, quick(server(t, q).URL))
	f, here := tempFile(t, append(make([]byte, 100), a.data...)), int64(-1)
	what := File{Digest: update.Sum(a.data), Length: mib, Paths: []string{"update/x"}, Begin: func(int64) (err error) {
		here, err = f.Seek(0, io.SeekEnd)
		return errors.Join(err, errSink)
	}}
	if _, _, err := c.WholeFile(t.Context(), what, f); !errors.Is(err, errSink) || here != 0 || len(q.list()) != 0 {
		t.Errorf("%d bytes were there, asked %q, %v", here, q.list(), err)
	}
	what.Begin = nil
	if _, _, err := c.WholeFile(t.Context(), what, f); err != nil {
		t.Error(err)
	}
	checkFile(t, f, a.data)
}
