package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/openpowerquality/box-update-server/update"
)

// TestRefusesHeaders changes bytes of a header that archive/tar does not write.
func TestRefusesHeaders(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(h []byte) // the header of README, the third
		want   string
	}{
		{"directory with content", func(h []byte) { h[156] = '5' }, "is no file and has 7 bytes of content"},
		{"link with content", func(h []byte) { h[156] = '2'; h[157] = 'x' }, "is no file and has 7 bytes of content"},
		{"file with a slash", func(h []byte) { h[len(testTop+"/README")] = '/' }, "is a file with the name of a directory"},
		{"old sparse file", func(h []byte) {
			h[156] = 'S'
			copy(h[257:], "ustar  \x00")
			copy(h[483:], "00000000007\x00")
		}, "is a sparse file"},
		{"volume", func(h []byte) { h[156] = 'V' }, "is of the unknown type 'V'"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := packed(t, good())
			h := b[3*512 : 4*512]
			if !bytes.HasPrefix(h, []byte(testTop+"/README\x00")) {
				t.Fatalf("the fourth block is not the header of README: %q", h[:40])
			}
			c.change(h)
			sum(h)
			refuses(t, compressed(t, b, update.TarGzip), update.TarGzip, Limits{}, c.want, nil)
		})
	}
}

// sum writes the checksum of a tar header.
func sum(h []byte) {
	copy(h[148:], "        ")
	n := 0
	for _, b := range h[:512] {
		n += int(b)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", n))
}

func TestRefusesSparsePAX(t *testing.T) {
	const records = "22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n27 GNU.sparse.realsize=900\n"
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	must(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "PaxHeaders/x", Size: int64(len(records))}))
	_, err := io.WriteString(w, records)
	must(t, err)
	must(t, w.Flush())
	must(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: testTop + "/x", Size: 512}))
	_, err = w.Write(append([]byte("0\n"), make([]byte, 510)...))
	must(t, err)
	must(t, w.Close())
	b.Bytes()[156] = 'x'
	sum(b.Bytes())
	want := "entry \"" + testTop + "/x\" is a sparse file"
	refuses(t, compressed(t, b.Bytes(), update.TarGzip), update.TarGzip, Limits{}, want, nil)
}

func TestRefusesMoreThanLimits(t *testing.T) {
	padding := make([]byte, 1<<20)
	for _, c := range []struct {
		name   string
		limits Limits
		want   string
	}{
		{"entries", Limits{Entries: 6}, "the archive is too large: more than 6 entries"},
		{"bytes", Limits{Bytes: 6000}, "the archive is too large: more than 6000 bytes unpacked"},
		{"bytes after the end", Limits{Bytes: 100_000}, "the archive is too large: more than 100000 bytes unpacked"},
		{"name", Limits{Name: 39}, "has a name of 43 bytes, more than 39"},
	} {
		for _, f := range formats {
			t.Run(c.name+" "+string(f), func(t *testing.T) {
				b := compressed(t, append(packed(t, good()), padding...), f)
				refuses(t, b, f, c.limits, c.want, nil)
			})
		}
	}
}

func TestRefusesImpliedDirectories(t *testing.T) {
	es := append(good(), entry{tar.Header{Typeflag: tar.TypeReg, Name: testTop + "/" + strings.Repeat("d/", 400) + "x"}, ""})
	b := compressed(t, packed(t, es), update.TarGzip)
	refuses(t, b, update.TarGzip, Limits{Entries: 300}, "more than 300 entries", nil)
}

// TestRefusesEnds says what may follow an archive, packed and compressed.
func TestRefusesEnds(t *testing.T) {
	plain := packed(t, good())
	end := len(plain) - 1024
	for _, f := range formats {
		whole := compressed(t, plain, f)
		two := slices.Concat(compressed(t, plain[:3000], f), compressed(t, plain[3000:], f))
		for _, c := range []struct {
			name string
			b    []byte
			want string // "" for a proper update
		}{
			{"padded to 10 KiB", compressed(t, append(slices.Clip(plain), make([]byte, 10<<10-len(plain)%(10<<10))...), f), ""},
			{"two streams", two, ""},
			{"no end", compressed(t, plain[:end], f), "its end is missing"},
			{"half an end", compressed(t, plain[:end+512], f), "its end is missing"},
			{"cut in an entry", compressed(t, plain[:end-505], f), "it ends too early"},
			{"data after the end", compressed(t, append(slices.Clip(plain), 'x'), f), "bytes follow its end: make it anew"},
			{"second archive after the end", append(slices.Clip(whole), whole...), "bytes follow its end: make it anew"},
			{"text after the stream", append(slices.Clip(whole), "-----BEGIN SIGNATURE-----"...), "bytes follow its end: make it anew"},
			{"data after the stream", append(slices.Clip(whole), "x"...), "follow its end"},
			{"other format", compressed(t, plain, formats[(slices.Index(formats, f)+1)%3]), "the archive is damaged or not what its name says"},
			{"not compressed", plain, "the archive is damaged or not what its name says"},
			{"nothing", nil, "the archive is damaged or not what its name says"},
		} {
			t.Run(string(f)+" "+c.name, func(t *testing.T) {
				if c.want == "" {
					accepts(t, c.b, f)
					return
				}
				refuses(t, c.b, f, Limits{}, c.want, nil)
			})
		}
	}
}

// TestRefusesCutAnywhere also holds that nothing is concluded from the part that is missing.
func TestRefusesCutAnywhere(t *testing.T) {
	const want = "the archive is damaged or not what its name says: "
	for _, f := range formats {
		whole := compressed(t, packed(t, good()), f)
		for n := range whole {
			r := inspect(t, whole[:n], f, Limits{})
			if len(r.Problems) != 1 || !strings.HasPrefix(r.Problems[0], want) {
				t.Errorf("%s: the first %d of %d bytes: got problems %q, want only %q", f, n, len(whole), r.Problems, want)
			}
			refuses(t, whole[:n], f, Limits{}, want, nil)
		}
	}
}

// TestChangedAnywhere holds that a byte which is changed is noticed, or that it changes nothing: gzip
// has a time and an operating system in its header.
func TestChangedAnywhere(t *testing.T) {
	for _, f := range formats {
		t.Run(string(f), func(t *testing.T) {
			whole := compressed(t, packed(t, good()), f)
			want, dir := state(t, unpacked(t, whole, f).Name()), fresh(t)
			step := 1
			if f == update.TarBzip2 {
				step = 5 // its readers are slow to make
			}
			for n := 0; n < len(whole); n += step {
				whole[n] ^= 0x10
				_, err := Unpack(context.Background(), bytes.NewReader(whole), name(t, f), dir, UnpackOptions{})
				whole[n] ^= 0x10
				if err == nil {
					same(t, state(t, dir.Name()), want)
					must(t, dir.RemoveAll(testTop))
				} else if !errors.Is(err, ErrImproper) {
					t.Errorf("byte %d changed: got error %v, want %v", n, err, ErrImproper)
				}
				empty(t, dir)
			}
		})
	}
}

func TestRefusesWindow(t *testing.T) {
	b := compressed(t, packed(t, good()), update.TarZstd)
	b[4], b[5] = 0, 0x70 // no frame content size, window of 16 MiB (RFC 8878, 3.1.1.1)
	refuses(t, b, update.TarZstd, Limits{}, "its zstd window is 16777216 bytes, and the limit is 8388608: compress it with boxsign build", nil)
	later := append(compressed(t, nil, update.TarZstd), b...) // in the second frame
	refuses(t, later, update.TarZstd, Limits{}, "its zstd window is larger, and the limit is 8388608", nil)
}

// A VERSION that is a link is named as such, and not as missing.
func TestRefusesLinkedVersion(t *testing.T) {
	for _, c := range []struct {
		kind byte
		to   string
		want string
	}{
		{tar.TypeSymlink, "README", `VERSION is a symbolic link to "README": expected a regular file`},
		{tar.TypeLink, testTop + "/README", `VERSION is a hard link to "` + testTop + `/README": expected a regular file`},
		{tar.TypeDir, "", "VERSION is a directory: expected a regular file"},
	} {
		var es []entry
		for _, e := range good() {
			if e.Name != testTop+"/"+VersionFile {
				es = append(es, e)
			}
		}
		es = append(es, entry{tar.Header{Typeflag: c.kind, Name: testTop + "/" + VersionFile, Linkname: c.to, Mode: 0o755}, ""})
		refuses(t, compressed(t, packed(t, es), update.TarGzip), update.TarGzip, Limits{}, c.want, ErrVersion)
	}
}
