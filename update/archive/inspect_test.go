package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/iotest"

	"github.com/openpowerquality/box-update-server/update"
)

func TestInspectGood(t *testing.T) {
	for _, f := range formats {
		r := inspect(t, compressed(t, packed(t, good()), f), f, Limits{})
		want := Report{Entries: 7, Unpacked: 40, InstallScript: true, Version: name(t, f).Version()}
		if fmt.Sprint(r) != fmt.Sprint(want) {
			t.Errorf("%s: got %+v, want %+v", f, r, want)
		}
	}
}

func TestInspectNamesTwentyProblems(t *testing.T) {
	es := good()
	for i := range 100 {
		es = append(es, entry{tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("/%d", i)}, ""})
	}
	r := inspect(t, compressed(t, packed(t, es), update.TarGzip), update.TarGzip, Limits{})
	if n := len(r.Problems); n != 21 || r.Problems[20] != "and 80 more" {
		t.Errorf("got %d problems %q, want 20 and how many more", n, r.Problems)
	}
}

// TestInspectReportsErrors tells the faults of a reader from those of an archive.
func TestInspectReportsErrors(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	broken, enough := errors.New("broken disk"), errors.New("enough")
	for _, f := range formats {
		b := compressed(t, packed(t, good()), f)
		half := io.MultiReader(bytes.NewReader(b[:len(b)/2]), iotest.ErrReader(broken))
		if _, err := Inspect(context.Background(), half, name(t, f), InspectOptions{}); !errors.Is(err, broken) {
			t.Errorf("%s: got error %v, want %v", f, err, broken)
		}
		if _, err := Inspect(ctx, bytes.NewReader(b), name(t, f), InspectOptions{}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got error %v, want %v", f, err, context.Canceled)
		}
		o := InspectOptions{Entry: func(Entry) error { return enough }}
		if _, err := Inspect(context.Background(), bytes.NewReader(b), name(t, f), o); !errors.Is(err, enough) {
			t.Errorf("%s: got error %v, want %v", f, err, enough)
		}
	}
}

func TestCalm(t *testing.T) {
	if n, err := (calm{panicking{}}).Read(nil); n != 0 || err == nil {
		t.Errorf("got %d, %v; want an error", n, err)
	}
}

type panicking struct{}

func (panicking) Read([]byte) (int, error) { panic("bad input") }
