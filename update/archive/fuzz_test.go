package archive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/update"
)

// fuzzInspect feeds Inspect with changed archives of one format.
func fuzzInspect(f *testing.F, format update.Format) {
	good := packed(f, good())
	for _, b := range [][]byte{nil, good, good[:len(good)-1024], good[:700]} {
		f.Add(compressed(f, b, format))
	}
	whole := compressed(f, good, format)
	f.Add(whole[:len(whole)/2])
	f.Add(append(whole[:len(whole):len(whole)], whole...))
	n := name(f, format)
	f.Fuzz(func(t *testing.T, b []byte) { checkInspect(t, b, n) })
}

// checkInspect asserts what holds for the report of any input.
func checkInspect(t *testing.T, b []byte, n update.Name) {
	t.Helper()
	limits := Limits{Entries: 1000, Bytes: 1 << 20, Name: 200}
	seen := 0
	o := InspectOptions{Limits: limits, Entry: func(e Entry) error {
		seen++
		if e.Problem == "" && (len(e.Name) > limits.Name || bytes.ContainsAny([]byte(e.Name), "\x00\n\x1b")) {
			t.Errorf("accepts the name %q", e.Name)
		}
		return nil
	}}
	r, err := Inspect(context.Background(), bytes.NewReader(b), n, o)
	if err != nil {
		t.Fatalf("a reader that does not fail: %v", err)
	}
	if r.Entries < seen || r.Entries > limits.Entries || r.Unpacked > limits.Bytes {
		t.Errorf("%d entries shown, limits %+v: %+v", seen, limits, r)
	}
	if r.Proper() && (r.Version != n.Version() || !r.InstallScript) {
		t.Errorf("a proper update without script or version: %+v", r)
	}
}

func FuzzInspectBzip2(f *testing.F) { fuzzInspect(f, update.TarBzip2) }
func FuzzInspectGzip(f *testing.F)  { fuzzInspect(f, update.TarGzip) }
func FuzzInspectZstd(f *testing.F)  { fuzzInspect(f, update.TarZstd) }

// FuzzInspectTar changes the archive before it is compressed, where the checksums of the compressors
// would hide what is below them, and mends the checksum of each header.
func FuzzInspectTar(f *testing.F) {
	f.Add(packed(f, good()))
	f.Add(packed(f, append(good(), entry{tar.Header{Typeflag: tar.TypeLink, Name: testTop + "/h", Linkname: testTop + "/README"}, ""})))
	f.Add(packed(f, append(good(), entry{tar.Header{Typeflag: tar.TypeDir, Name: testTop + "/" + long(150)}, ""})))
	n := name(f, update.TarGzip)
	f.Fuzz(func(t *testing.T, b []byte) { checkInspect(t, mended(t, b), n) })
}

// mended returns the tar archive with the checksum of each header right, packed as gzip.
func mended(t *testing.T, b []byte) []byte {
	t.Helper()
	if len(b) > 1<<16 {
		t.Skip()
	}
	b = bytes.Clone(b)
	for i := 0; i+512 <= len(b); i += 512 {
		if bytes.HasPrefix(b[i+257:], []byte("ustar")) {
			sum(b[i : i+512])
		}
	}
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.NoCompression)
	must(t, err)
	_, err = io.Copy(w, bytes.NewReader(b))
	must(t, err)
	must(t, w.Close())
	return out.Bytes()
}

// FuzzUnpack unpacks changed archives: what Inspect finds proper, and nothing else, is unpacked, and
// none of it lies or leads outside.
func FuzzUnpack(f *testing.F) {
	f.Add(packed(f, good()))
	for _, h := range []tar.Header{
		{Typeflag: tar.TypeLink, Name: testTop + "/h", Linkname: testTop + "/README", Mode: 0o755},
		{Typeflag: tar.TypeSymlink, Name: testTop + "/a/b", Linkname: ".."},
		{Typeflag: tar.TypeReg, Name: testTop + "/a/b", Linkname: "/etc/passwd", Mode: 0o644},
		{Typeflag: tar.TypeDir, Name: testTop + "/" + long(150) + "/", Mode: 0o700},
		{Typeflag: tar.TypeReg, Name: testTop + "/a/b/c", Mode: 0o6777},
		{Typeflag: tar.TypeReg, Name: testTop + "/a", Mode: 0o600, ModTime: time.Unix(-1, 5), Format: tar.FormatPAX},
	} {
		f.Add(packed(f, append(good(), entry{h, ""})))
	}
	n := name(f, update.TarGzip)
	limits := Limits{Entries: 1000, Bytes: 1 << 20, Name: 200}
	f.Fuzz(func(t *testing.T, b []byte) {
		b = mended(t, b)
		want := inspect(t, b, update.TarGzip, limits)
		dir := fresh(t)
		got, err := Unpack(context.Background(), bytes.NewReader(b), n, dir, UnpackOptions{Limits: limits})
		if !want.Proper() {
			if !errors.Is(err, ErrImproper) {
				t.Errorf("got error %v, want %v: %q", err, ErrImproper, want.Problems)
			}
			empty(t, dir)
			return
		}
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %+v, %v; inspect %+v", got, err, want)
		}
		checkTree(t, dir.Name())
	})
}

// checkTree asserts that nothing below dir has other modes or leads elsewhere than an update may.
func checkTree(t *testing.T, dir string) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(dir)
	must(t, err)
	must(t, filepath.WalkDir(filepath.Join(dir, testTop), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch m := info.Mode(); {
		case m.Type() == fs.ModeSymlink:
			if to, err := filepath.EvalSymlinks(path); err == nil && !strings.HasPrefix(to+"/", filepath.Join(dir, testTop)+"/") {
				t.Errorf("%q leads to %q", path, to)
			}
		case !m.IsRegular() && !m.IsDir() || m.Perm()&0o022 != 0 || m&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky) != 0:
			t.Errorf("%q has the mode %v", path, m)
		}
		return nil
	}))
}
