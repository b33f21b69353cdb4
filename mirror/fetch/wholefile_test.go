package fetch

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

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
