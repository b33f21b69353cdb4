package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/openpowerquality/box-update-server/update"
)

func TestInspectGood(t *testing.T) {
	for _, f := range formats {
		r := inspect(t, compressed(t, packed(t, good()), f), f, Limits{})
		want := Report{Entries: 7, Unpacked: 40, InstallScript: true, Version: name(t, f).Version(), Interpreter: Shell, Complete: true}
		if fmt.Sprint(r) != fmt.Sprint(want) {
			t.Errorf("%s: got %+v, want %+v", f, r, want)
		}
	}
}

// Content gets each regular file whole, also those of which the inspection itself reads the beginning, and a file that is cut
// ends the inspection.
func TestInspectContent(t *testing.T) {
	for _, f := range formats {
		b := compressed(t, packed(t, good()), f)
		got := map[string]string{}
		o := InspectOptions{Content: func(e Entry, content io.Reader) error {
			body, err := io.ReadAll(content)
			got[e.Name] = string(body)
			return err
		}}
		if r, err := Inspect(t.Context(), bytes.NewReader(b), name(t, f), o); err != nil || !r.Complete {
			t.Fatalf("%s: got %+v, %v", f, r, err)
		}
		for _, e := range good() {
			body, ok := got[e.Name]
			if want := e.Typeflag == tar.TypeReg; ok != want || body != e.body {
				t.Errorf("%s: %s: got %q, %v; want %q, %v", f, e.Name, body, ok, e.body, want)
			}
		}
		if r, err := Inspect(t.Context(), bytes.NewReader(b[:len(b)/2]), name(t, f), o); err != nil || r.Complete {
			t.Errorf("%s, cut: got %+v, %v", f, r, err)
		}
	}
}

// A signer hears of what boxes have always taken, and no box refuses it.
func TestInspectIsStricter(t *testing.T) {
	script := func(text string) func([]entry) {
		return func(es []entry) { e := at(es, InstallScript); e.body, e.Size = text, int64(len(text)) }
	}
	for _, c := range []struct {
		name   string
		change func([]entry)
		want   string
	}{
		{"CR LF", script("#!/bin/sh\r\ncp a b\r\n"), "install_update.sh has lines that end with CR LF, as Windows writes them: save it with LF alone"},
		{"CR LF without #!", script("cp a b\r\n"), "install_update.sh has lines that end with CR LF"},
		{"no program", script("#!\ncp a b\n"), "install_update.sh names no program after #! in its first line"},
		{"relative", script("#! bin/sh\n"), "install_update.sh is to be run by \"bin/sh\", which is no absolute path"},
		{"long", script("#!/bin/sh " + strings.Repeat("x", 300) + "\n"), "install_update.sh has a first line of more than 255 bytes"},
		{"capabilities", func(es []entry) {
			at(es, "opq/mauka").PAXRecords = map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02"}
		}, `entry "opq-box-update-1550190683/opq/mauka" has file capabilities, which a box drops`},
		{"capabilities as libarchive writes them", func(es []entry) {
			at(es, "opq/mauka").PAXRecords = map[string]string{"LIBARCHIVE.xattr.security.capability": "AQAAAg"}
		}, `entry "opq-box-update-1550190683/opq/mauka" has file capabilities, which a box drops`},
		{"setgid directory", func(es []entry) { es[0].Mode = 0o2755 }, `entry "opq-box-update-1550190683/" has a setgid bit, which a box drops`},
	} {
		t.Run(c.name, func(t *testing.T) {
			es := good()
			c.change(es)
			b := compressed(t, packed(t, es), update.TarGzip)
			if r := inspect(t, b, update.TarGzip, Limits{}); len(r.Problems) != 1 || !strings.HasPrefix(r.Problems[0], c.want) {
				t.Errorf("got problems %q, want %q", r.Problems, c.want)
			}
			r, err := Unpack(t.Context(), bytes.NewReader(b), name(t, update.TarGzip), fresh(t), UnpackOptions{})
			if err != nil || !r.Proper() {
				t.Errorf("unpack: got %+v, %v", r, err)
			}
		})
	}
}

func TestInterpreter(t *testing.T) {
	for head, want := range map[string]string{
		"#!/bin/sh\n": "/bin/sh", "#! /usr/bin/env python3\nimport os": "/usr/bin/env", "#!/bin/bash -e\n": "/bin/bash",
		"": Shell, "cp a b\n": Shell, "#!/bin/sh": "/bin/sh",
	} {
		if got, err := Interpreter([]byte(head)); err != nil || got != want {
			t.Errorf("%q: got %q, %v; want %q", head, got, err, want)
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
