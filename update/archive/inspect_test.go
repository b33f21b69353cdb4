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

// at returns the entry of that name below the top directory.
func at(entries []entry, name string) *entry {
	i := slices.IndexFunc(entries, func(e entry) bool { return e.Name == testTop+"/"+name })
	return &entries[i]
}

// TestInspectAccepts changes one thing that honest archives differ in.
func TestInspectAccepts(t *testing.T) {
	more := func(h tar.Header) func([]entry) []entry {
		return func(es []entry) []entry { return append(es, entry{h, ""}) }
	}
	for _, c := range []struct {
		name   string
		change func([]entry) []entry
	}{
		{"no directories", func(es []entry) []entry {
			return slices.DeleteFunc(es, func(e entry) bool { return e.Typeflag == tar.TypeDir })
		}},
		{"directory after its contents", func(es []entry) []entry { return append(es[1:], es[0]) }},
		{"leading ./", func(es []entry) []entry {
			for i := range es {
				es[i].Name = "./" + es[i].Name
			}
			return append([]entry{{tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o755}, ""}}, es...)
		}},
		{"owner", func(es []entry) []entry {
			for i := range es {
				es[i].Uid, es[i].Uname, es[i].Gid, es[i].Gname = 1000, "anthony", 1000, "opq"
			}
			return es
		}},
		{"other modes", func(es []entry) []entry {
			es[0].Mode = 0o2775
			at(es, InstallScript).Mode = 0o700
			return es
		}},
		{"version in lower case", func(es []entry) []entry { at(es, "VERSION").Name = testTop + "/version"; return es }},
		{"both spellings", func(es []entry) []entry {
			return append(es, entry{tar.Header{Typeflag: tar.TypeReg, Name: testTop + "/version", Mode: 0o644, Size: 2}, "v2"})
		}},
		{"VERSION without newline", func(es []entry) []entry {
			v := at(es, "VERSION")
			v.body, v.Size = "1550190683", 10
			return es
		}},
		{"hard link", more(tar.Header{Typeflag: tar.TypeLink, Name: testTop + "/opq/again", Linkname: testTop + "/opq/mauka", Mode: 0o755})},
		{"link to a directory", more(tar.Header{Typeflag: tar.TypeSymlink, Name: testTop + "/opq/up", Linkname: ".."})},
		{"link to nothing", more(tar.Header{Typeflag: tar.TypeSymlink, Name: testTop + "/opq/later", Linkname: "./not//yet"})},
		{"comment of git archive", func(es []entry) []entry {
			g := tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "pax_global_header", PAXRecords: map[string]string{"comment": "0992dd7"}}
			return append([]entry{{g, ""}}, es...)
		}},
		{"long name in GNU format", more(tar.Header{Typeflag: tar.TypeDir, Name: testTop + "/" + long(200) + "/", Mode: 0o755, Format: tar.FormatGNU})},
		{"long name in PAX format", more(tar.Header{Typeflag: tar.TypeDir, Name: testTop + "/" + long(200) + "/", Mode: 0o755, Format: tar.FormatPAX})},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := compressed(t, packed(t, c.change(good())), update.TarGzip)
			if r := inspect(t, b, update.TarGzip, Limits{}); !r.Proper() || !r.InstallScript || r.Version.IsZero() {
				t.Errorf("got %+v, want a proper update", r)
			}
		})
	}
}

// TestInspectRefuses changes one thing that makes a good archive a bad one.
func TestInspectRefuses(t *testing.T) {
	on := func(file string, change func(*entry)) func([]entry) []entry {
		return func(es []entry) []entry { change(at(es, file)); return es }
	}
	without := func(file string) func([]entry) []entry {
		return func(es []entry) []entry {
			return slices.DeleteFunc(es, func(e entry) bool { return e.Name == testTop+"/"+file })
		}
	}
	more := func(h tar.Header) func([]entry) []entry {
		return func(es []entry) []entry { return append(es, entry{h, strings.Repeat("x", int(h.Size))}) }
	}
	mauka := func(change func(*entry)) func([]entry) []entry { return on("opq/mauka", change) }
	link := func(target string) func([]entry) []entry {
		return on("opq/current", func(e *entry) { e.Linkname = target })
	}
	version := func(s string) func([]entry) []entry {
		return on("VERSION", func(e *entry) { e.body, e.Size = s, int64(len(s)) })
	}
	typ := func(flag byte) func([]entry) []entry {
		return mauka(func(e *entry) { e.Typeflag, e.Size, e.body = flag, 0, "" })
	}
	const below = testTop + "/"
	for _, c := range []struct {
		name   string
		change func([]entry) []entry
		want   string
	}{
		{"empty", func([]entry) []entry { return nil }, "has no install_update.sh at the top of " + testTop},
		{"no script", without(InstallScript), "has no install_update.sh at the top of " + testTop},
		{"script further down", on(InstallScript, func(e *entry) { e.Name = below + "opq/install_update.sh" }), "has no install_update.sh at the top"},
		{"script not executable", on(InstallScript, func(e *entry) { e.Mode = 0o644 }), "install_update.sh is not executable (mode 0644)"},
		{"script is a link", on(InstallScript, func(e *entry) {
			e.Typeflag, e.Linkname, e.Size, e.body = tar.TypeSymlink, "opq/mauka", 0, ""
		}), "install_update.sh is not a regular file"},
		{"script is a directory", on(InstallScript, func(e *entry) { e.Typeflag, e.Name, e.Size, e.body = tar.TypeDir, e.Name+"/", 0, "" }), "install_update.sh is not a regular file"},
		{"script is a global header", on(InstallScript, func(e *entry) {
			e.Header, e.body = tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: e.Name, PAXRecords: map[string]string{"comment": "x"}}, ""
		}), "install_update.sh is not a regular file"},
		{"no VERSION", without("VERSION"), "has no file VERSION at the top of " + testTop},
		{"VERSION is a directory", on("VERSION", func(e *entry) { e.Typeflag, e.Name, e.Size, e.body = tar.TypeDir, e.Name+"/", 0, "" }), "has no file VERSION"},
		{"other VERSION", version("1550190684\n"), "VERSION says 1550190684, the name says 1550190683"},
		{"empty VERSION", version(""), "VERSION: version \"\": expected 1 to 32 digits"},
		{"VERSION with a zero before", version("01550190683"), "VERSION: version \"01550190683\": expected no leading zero"},
		{"long VERSION", version("1550190683" + strings.Repeat(" ", 55)), "VERSION: has more than 64 bytes"},
		{"other version in lower case", func(es []entry) []entry {
			e := at(es, "VERSION")
			e.Name, e.body = below+"version", "1550190684\n"
			return es
		}, "version says 1550190684, the name says 1550190683"},

		{"absolute name", mauka(func(e *entry) { e.Name = "/" + e.Name }), "\"/" + below + "opq/mauka\" has an absolute name"},
		{"name climbs out", mauka(func(e *entry) { e.Name = below + "../mauka" }), "has .. in its name"},
		{"name climbs and returns", mauka(func(e *entry) { e.Name = below + "opq/../mauka" }), "has .. in its name"},
		{"name is ..", mauka(func(e *entry) { e.Name = ".." }), "\"..\" has .. in its name"},
		{"second top", mauka(func(e *entry) { e.Name = "other/mauka" }), "\"other/mauka\" is not in the directory " + testTop},
		{"top of another version", mauka(func(e *entry) { e.Name = testTop + "4/mauka" }), "is not in the directory " + testTop},
		{"file beside the top", mauka(func(e *entry) { e.Name = "mauka" }), "\"mauka\" is not in the directory"},
		{"top is a file", func(es []entry) []entry {
			es[0].Typeflag, es[0].Name = tar.TypeReg, testTop
			return es
		}, "\"" + testTop + "\" is not in the directory " + testTop},
		{"top is a link", func(es []entry) []entry {
			es[0].Typeflag, es[0].Name, es[0].Linkname = tar.TypeSymlink, testTop, "tmp"
			return es
		}, "\"" + testTop + "\" is not in the directory " + testTop},
		{"control character", mauka(func(e *entry) { e.Name = below + "a\x1b[2J" }), "\"" + below + "a\\x1b[2J\" has a control character in its name"},
		{"not UTF-8", mauka(func(e *entry) { e.Name = below + "\xff" }), "has a name that is not UTF-8"},
		{"long name", mauka(func(e *entry) { e.Name = below + strings.Repeat("d/", 500) + "m" }), "has a name of 1027 bytes, more than 1024"},
		{"long element", mauka(func(e *entry) { e.Name = below + long(256) }), "with more than 255 bytes between two slashes"},

		{"setuid", mauka(func(e *entry) { e.Mode = 0o4755 }), "\"" + below + "opq/mauka\" has a setuid or setgid bit (mode 4755)"},
		{"setgid", mauka(func(e *entry) { e.Mode = 0o2755 }), "has a setuid or setgid bit (mode 2755)"},
		{"character device", typ(tar.TypeChar), "is a device"},
		{"block device", typ(tar.TypeBlock), "is a device"},
		{"FIFO", typ(tar.TypeFifo), "is a FIFO"},
		{"unknown type", typ('Z'), "is of the unknown type 'Z'"},

		{"absolute link", link("/etc/passwd"), "\"" + below + "opq/current\" links to \"/etc/passwd\", outside of the update"},
		{"link climbs out", link("../../x"), "links to \"../../x\", outside of the update"},
		{"link climbs out in steps", link(".././../x"), "links to \".././../x\", outside of the update"},
		{"link climbs after a name", link("x/../../README"), "links to \"x/../../README\", with .. after a name"},
		{"link to a control character", link("a\x07"), "has a control character in its link target"},
		{"long link", link(strings.Repeat("d/", 513)), "has a link target of 1026 bytes, more than 1024"},
		{"file below a link", more(tar.Header{Typeflag: tar.TypeReg, Name: below + "opq/current/x"}), "lies below \"" + below + "opq/current\", which is no directory"},
		{"file below a file", more(tar.Header{Typeflag: tar.TypeReg, Name: below + "README/x"}), "lies below \"" + below + "README\", which is no directory"},
		{"link in place of a directory", more(tar.Header{Typeflag: tar.TypeSymlink, Name: below + "opq", Linkname: "."}), "\"" + below + "opq\" stands twice"},
		{"link in place of an implied directory", func(es []entry) []entry {
			es = append(es, entry{tar.Header{Typeflag: tar.TypeReg, Name: below + "a/b"}, ""})
			return append(es, entry{tar.Header{Typeflag: tar.TypeSymlink, Name: below + "a", Linkname: "opq"}, ""})
		}, "\"" + below + "a\" stands twice"},
		{"file twice", more(tar.Header{Typeflag: tar.TypeReg, Name: below + "README"}), "\"" + below + "README\" stands twice"},
		{"file twice in two spellings", more(tar.Header{Typeflag: tar.TypeReg, Name: "./" + below + "/./README"}), "README\" stands twice"},
		{"directory twice", more(tar.Header{Typeflag: tar.TypeDir, Name: below + "opq/"}), "\"" + below + "opq/\" stands twice"},
		{"hard link out", more(tar.Header{Typeflag: tar.TypeLink, Name: below + "h", Linkname: "../etc/passwd"}), "is a hard link whose target has .. in its name"},
		{"absolute hard link", more(tar.Header{Typeflag: tar.TypeLink, Name: below + "h", Linkname: "/etc/passwd"}), "is a hard link whose target has an absolute name"},
		{"hard link to a link", more(tar.Header{Typeflag: tar.TypeLink, Name: below + "h", Linkname: below + "opq/current"}), "which is no file that came before"},
		{"hard link forward", func(es []entry) []entry {
			return slices.Insert(es, 1, entry{tar.Header{Typeflag: tar.TypeLink, Name: below + "h", Linkname: below + "README"}, ""})
		}, "which is no file that came before"},
		{"setuid hard link", more(tar.Header{Typeflag: tar.TypeLink, Name: below + "h", Linkname: below + "README", Mode: 0o4755}), "has a setuid or setgid bit"},
		{"global path", func(es []entry) []entry {
			g := tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "g", PAXRecords: map[string]string{"path": "/etc/passwd"}}
			return append([]entry{{g, ""}}, es...)
		}, "is a global header that sets \"path\""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := compressed(t, packed(t, c.change(good())), update.TarGzip)
			r := inspect(t, b, update.TarGzip, Limits{})
			if !slices.ContainsFunc(r.Problems, func(p string) bool { return strings.Contains(p, c.want) }) {
				t.Errorf("got problems %q, want %q", r.Problems, c.want)
			}
		})
	}
}

// TestInspectRefusesHeaders changes bytes of a header that archive/tar does not write.
func TestInspectRefusesHeaders(t *testing.T) {
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
			r := inspect(t, compressed(t, b, update.TarGzip), update.TarGzip, Limits{})
			if !slices.ContainsFunc(r.Problems, func(p string) bool { return strings.Contains(p, c.want) }) {
				t.Errorf("got problems %q, want %q", r.Problems, c.want)
			}
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

func TestInspectSparsePAX(t *testing.T) {
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
	r := inspect(t, compressed(t, b.Bytes(), update.TarGzip), update.TarGzip, Limits{})
	if want := "entry \"" + testTop + "/x\" is a sparse file"; !slices.Contains(r.Problems, want) {
		t.Errorf("got problems %q, want %q", r.Problems, want)
	}
}

func TestInspectLimits(t *testing.T) {
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
				r := inspect(t, b, f, c.limits)
				if !slices.ContainsFunc(r.Problems, func(p string) bool { return strings.Contains(p, c.want) }) {
					t.Errorf("got problems %q, want %q", r.Problems, c.want)
				}
			})
		}
	}
}

func TestInspectCountsImpliedDirectories(t *testing.T) {
	es := append(good(), entry{tar.Header{Typeflag: tar.TypeReg, Name: testTop + "/" + strings.Repeat("d/", 400) + "x"}, ""})
	r := inspect(t, compressed(t, packed(t, es), update.TarGzip), update.TarGzip, Limits{Entries: 300})
	if want := "more than 300 entries"; !strings.Contains(strings.Join(r.Problems, "\n"), want) {
		t.Errorf("got problems %q, want %q", r.Problems, want)
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

// TestInspectEnds says what may follow an archive, packed and compressed.
func TestInspectEnds(t *testing.T) {
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
			{"cut in an entry", compressed(t, plain[:end-505], f), "unexpected EOF"},
			{"data after the end", compressed(t, append(slices.Clip(plain), 'x'), f), "data follows its end"},
			{"second archive after the end", append(slices.Clip(whole), whole...), "data follows its end"},
			{"data after the stream", append(slices.Clip(whole), "x"...), "the archive is damaged"},
			{"other format", compressed(t, plain, formats[(slices.Index(formats, f)+1)%3]), "the archive is damaged or not what its name says"},
			{"not compressed", plain, "the archive is damaged or not what its name says"},
			{"nothing", nil, "the archive is damaged or not what its name says"},
		} {
			t.Run(string(f)+" "+c.name, func(t *testing.T) {
				r := inspect(t, c.b, f, Limits{})
				got := strings.Join(r.Problems, "\n")
				if c.want == "" && !r.Proper() || c.want != "" && !strings.Contains(got, c.want) {
					t.Errorf("got problems %q, want %q", r.Problems, c.want)
				}
			})
		}
	}
}

// TestInspectCutAnywhere also holds that nothing is concluded from the part that is missing.
func TestInspectCutAnywhere(t *testing.T) {
	const want = "the archive is damaged or not what its name says: "
	for _, f := range formats {
		whole := compressed(t, packed(t, good()), f)
		for n := range whole {
			r := inspect(t, whole[:n], f, Limits{})
			if len(r.Problems) != 1 || !strings.HasPrefix(r.Problems[0], want) {
				t.Errorf("%s: the first %d of %d bytes: got problems %q, want only %q", f, n, len(whole), r.Problems, want)
			}
		}
	}
}

func TestInspectWindow(t *testing.T) {
	b := compressed(t, packed(t, good()), update.TarZstd)
	b[4], b[5] = 0, 0x70 // no frame content size, window of 16 MiB (RFC 8878, 3.1.1.1)
	r := inspect(t, b, update.TarZstd, Limits{})
	if want := "window size exceeded"; !strings.Contains(strings.Join(r.Problems, "\n"), want) {
		t.Errorf("got problems %q, want %q", r.Problems, want)
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
