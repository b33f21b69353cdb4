package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/openpowerquality/box-update-server/update"
)

// at returns the entry of that name below the top directory.
func at(entries []entry, name string) *entry {
	i := slices.IndexFunc(entries, func(e entry) bool { return e.Name == testTop+"/"+name })
	return &entries[i]
}

// refuses asserts that Inspect names the problem, and that Unpack stops at it with an error of that
// kind and leaves nothing inside its directory and beside it.
func refuses(t *testing.T, b []byte, f update.Format, l Limits, want string, kind error) {
	t.Helper()
	r := inspect(t, b, f, l)
	if !slices.ContainsFunc(r.Problems, func(p string) bool { return strings.Contains(p, want) }) {
		t.Errorf("inspect: got problems %q, want %q", r.Problems, want)
	}
	dir := fresh(t)
	got, err := Unpack(context.Background(), bytes.NewReader(b), name(t, f), dir, UnpackOptions{Limits: l})
	if !errors.Is(err, ErrImproper) || !strings.Contains(err.Error(), want) {
		t.Fatalf("unpack: got error %v, want %v: %s", err, ErrImproper, want)
	}
	for _, k := range []error{ErrNoInstallScript, ErrVersion} {
		if errors.Is(err, k) != errors.Is(kind, k) {
			t.Errorf("unpack: got error %v, want one of the kind %v", err, kind)
		}
	}
	if got.Entries != 0 || len(got.Problems) != 0 {
		t.Errorf("unpack: got %+v beside an error", got)
	}
	empty(t, dir)
}

// fresh returns an empty directory in one of its own.
func fresh(t testing.TB) *os.Root {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "work")
	must(t, os.Mkdir(dir, 0o700))
	return root(t, dir)
}

// empty asserts that nothing is in a directory that fresh made, and nothing beside it.
func empty(t testing.TB, dir *os.Root) {
	t.Helper()
	for _, d := range []string{dir.Name(), filepath.Dir(dir.Name())} {
		left, err := os.ReadDir(d)
		must(t, err)
		if len(left) > 0 && left[0].Name() != "work" || len(left) > 1 {
			t.Errorf("%v is left in %s", left, d)
		}
	}
}

// TestRefuses changes one thing that makes a good archive a bad one.
func TestRefuses(t *testing.T) {
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
		kind   error // beside ErrImproper
	}{
		{"empty", func([]entry) []entry { return nil }, "has no install_update.sh at the top of " + testTop, ErrNoInstallScript},
		{"no script", without(InstallScript), "has no install_update.sh at the top of " + testTop, ErrNoInstallScript},
		{"script further down", on(InstallScript, func(e *entry) { e.Name = below + "opq/install_update.sh" }), "has no install_update.sh at the top", ErrNoInstallScript},
		{"script not executable", on(InstallScript, func(e *entry) { e.Mode = 0o644 }), "install_update.sh is not executable (mode 0644)", ErrNoInstallScript},
		{"script is a link", on(InstallScript, func(e *entry) {
			e.Typeflag, e.Linkname, e.Size, e.body = tar.TypeSymlink, "opq/mauka", 0, ""
		}), "install_update.sh is not a regular file", ErrNoInstallScript},
		{"script is a directory", on(InstallScript, func(e *entry) { e.Typeflag, e.Name, e.Size, e.body = tar.TypeDir, e.Name+"/", 0, "" }), "install_update.sh is not a regular file", ErrNoInstallScript},
		{"script is a global header", on(InstallScript, func(e *entry) {
			e.Header, e.body = tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: e.Name, PAXRecords: map[string]string{"comment": "x"}}, ""
		}), "install_update.sh is not a regular file", ErrNoInstallScript},
		{"no VERSION", without("VERSION"), "has no file VERSION at the top of " + testTop, ErrVersion},
		{"VERSION is a directory", on("VERSION", func(e *entry) { e.Typeflag, e.Name, e.Size, e.body = tar.TypeDir, e.Name+"/", 0, "" }), "VERSION is a directory: expected a regular file", ErrVersion},
		{"other VERSION", version("1550190684\n"), "VERSION says 1550190684, the name says 1550190683", ErrVersion},
		{"empty VERSION", version(""), "VERSION: version \"\": expected 1 to 32 digits", ErrVersion},
		{"VERSION with a zero before", version("01550190683"), "VERSION: version \"01550190683\": expected no leading zero", ErrVersion},
		{"long VERSION", version("1550190683" + strings.Repeat(" ", 55)), "VERSION: has more than 64 bytes", ErrVersion},
		{"other version in lower case", func(es []entry) []entry {
			e := at(es, "VERSION")
			e.Name, e.body = below+"version", "1550190684\n"
			return es
		}, "version says 1550190684, the name says 1550190683", ErrVersion},

		{"absolute name", mauka(func(e *entry) { e.Name = "/" + e.Name }), "\"/" + below + "opq/mauka\" has an absolute name", nil},
		{"name climbs out", mauka(func(e *entry) { e.Name = below + "../mauka" }), "has .. in its name", nil},
		{"name climbs and returns", mauka(func(e *entry) { e.Name = below + "opq/../mauka" }), "has .. in its name", nil},
		{"name is ..", mauka(func(e *entry) { e.Name = ".." }), "\"..\" has .. in its name", nil},
		{"second top", mauka(func(e *entry) { e.Name = "other/mauka" }), "\"other/mauka\" is not in the directory " + testTop, nil},
		{"top of another version", mauka(func(e *entry) { e.Name = testTop + "4/mauka" }), "is not in the directory " + testTop, nil},
		{"file beside the top", mauka(func(e *entry) { e.Name = "mauka" }), "\"mauka\" is not in the directory", nil},
		{"top is a file", func(es []entry) []entry {
			es[0].Typeflag, es[0].Name = tar.TypeReg, testTop
			return es
		}, "\"" + testTop + "\" is not in the directory " + testTop, nil},
		{"top is a link", func(es []entry) []entry {
			es[0].Typeflag, es[0].Name, es[0].Linkname = tar.TypeSymlink, testTop, "tmp"
			return es
		}, "\"" + testTop + "\" is not in the directory " + testTop, nil},
		{"control character", mauka(func(e *entry) { e.Name = below + "a\x1b[2J" }), "\"" + below + "a\\x1b[2J\" has a control character in its name", nil},
		{"not UTF-8", mauka(func(e *entry) { e.Name = below + "\xff" }), "has a name that is not UTF-8", nil},
		{"long name", mauka(func(e *entry) { e.Name = below + strings.Repeat("d/", 500) + "m" }), "has a name of 1027 bytes, more than 1024", nil},
		{"long element", mauka(func(e *entry) { e.Name = below + long(256) }), "with more than 255 bytes between two slashes", nil},

		{"setuid", mauka(func(e *entry) { e.Mode = 0o4755 }), "\"" + below + "opq/mauka\" has a setuid or setgid bit (mode 4755)", nil},
		{"setgid", mauka(func(e *entry) { e.Mode = 0o2755 }), "has a setuid or setgid bit (mode 2755)", nil},
		{"character device", typ(tar.TypeChar), "is a device", nil},
		{"block device", typ(tar.TypeBlock), "is a device", nil},
		{"FIFO", typ(tar.TypeFifo), "is a FIFO", nil},
		{"unknown type", typ('Z'), "is of the unknown type 'Z'", nil},

		{"absolute link", link("/etc/passwd"), "\"" + below + "opq/current\" links to \"/etc/passwd\", outside of the update", nil},
		{"link climbs out", link("../../x"), "links to \"../../x\", outside of the update", nil},
		{"link climbs out in steps", link(".././../x"), "links to \".././../x\", outside of the update", nil},
		{"link climbs after a name", link("x/../../README"), "links to \"x/../../README\", with .. after a name", nil},
		{"link to a control character", link("a\x07"), "has a control character in its link target", nil},
		{"long link", link(strings.Repeat("d/", 513)), "has a link target of 1026 bytes, more than 1024", nil},
		{"file below a link", more(tar.Header{Typeflag: tar.TypeReg, Name: below + "opq/current/x"}), "lies below \"" + below + "opq/current\", which is no directory", nil},
		{"file below a file", more(tar.Header{Typeflag: tar.TypeReg, Name: below + "README/x"}), "lies below \"" + below + "README\", which is no directory", nil},
		{"link in place of a directory", more(tar.Header{Typeflag: tar.TypeSymlink, Name: below + "opq", Linkname: "."}), "\"" + below + "opq\" stands twice", nil},
		{"link in place of an implied directory", func(es []entry) []entry {
			es = append(es, entry{tar.Header{Typeflag: tar.TypeReg, Name: below + "a/b"}, ""})
			return append(es, entry{tar.Header{Typeflag: tar.TypeSymlink, Name: below + "a", Linkname: "opq"}, ""})
		}, "\"" + below + "a\" stands twice", nil},
		{"file twice", more(tar.Header{Typeflag: tar.TypeReg, Name: below + "README"}), "\"" + below + "README\" stands twice", nil},
		{"file twice in two spellings", more(tar.Header{Typeflag: tar.TypeReg, Name: "./" + below + "/./README"}), "README\" stands twice", nil},
		{"directory twice", more(tar.Header{Typeflag: tar.TypeDir, Name: below + "opq/"}), "\"" + below + "opq/\" stands twice", nil},
		{"hard link out", more(tar.Header{Typeflag: tar.TypeLink, Name: below + "h", Linkname: "../etc/passwd"}), "is a hard link whose target has .. in its name", nil},
		{"absolute hard link", more(tar.Header{Typeflag: tar.TypeLink, Name: below + "h", Linkname: "/etc/passwd"}), "is a hard link whose target has an absolute name", nil},
		{"hard link to a link", more(tar.Header{Typeflag: tar.TypeLink, Name: below + "h", Linkname: below + "opq/current"}), "which is no file that came before", nil},
		{"hard link forward", func(es []entry) []entry {
			return slices.Insert(es, 1, entry{tar.Header{Typeflag: tar.TypeLink, Name: below + "h", Linkname: below + "README"}, ""})
		}, "which is no file that came before", nil},
		{"setuid hard link", more(tar.Header{Typeflag: tar.TypeLink, Name: below + "h", Linkname: below + "README", Mode: 0o4755}), "has a setuid or setgid bit", nil},
		{"global path", func(es []entry) []entry {
			g := tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "g", PAXRecords: map[string]string{"path": "/etc/passwd"}}
			return append([]entry{{g, ""}}, es...)
		}, "is a global header that sets \"path\"", nil},
		{"hard link to a directory", more(tar.Header{Typeflag: tar.TypeLink, Name: below + "h", Linkname: below + "opq"}), "which is no file that came before", nil},
		{"hard link to itself", more(tar.Header{Typeflag: tar.TypeLink, Name: below + "h", Linkname: below + "h"}), "which is no file that came before", nil},
		{"hard link in place of a file", more(tar.Header{Typeflag: tar.TypeLink, Name: below + "README", Linkname: below + "VERSION"}), "README\" stands twice", nil},
		{"file in place of a link", more(tar.Header{Typeflag: tar.TypeReg, Name: below + "opq/current"}), "current\" stands twice", nil},
		{"file in place of a directory", more(tar.Header{Typeflag: tar.TypeReg, Name: below + "opq"}), "opq\" stands twice", nil},
		{"directory in place of a link", more(tar.Header{Typeflag: tar.TypeDir, Name: below + "opq/current/"}), "current/\" stands twice", nil},
		{"link below a link", more(tar.Header{Typeflag: tar.TypeSymlink, Name: below + "opq/current/x", Linkname: "y"}), "current\", which is no directory", nil},
		{"hard link below a link", more(tar.Header{Typeflag: tar.TypeLink, Name: below + "opq/current/x", Linkname: below + "README"}), "current\", which is no directory", nil},
		{"link to the root", link("/"), "links to \"/\", outside of the update", nil},
		{"link beside the top", link("../../" + testTop + "x"), "outside of the update", nil},
		{"link without a target", link(""), "has an empty link target", nil},
		{"absolute name in PAX format", mauka(func(e *entry) { e.Name, e.Format = "/"+below+long(200), tar.FormatPAX }), "has an absolute name", nil},
		{"absolute name in GNU format", mauka(func(e *entry) { e.Name, e.Format = "/"+below+long(200), tar.FormatGNU }), "has an absolute name", nil},
		{"long link in PAX format", on("opq/current", func(e *entry) { e.Linkname, e.Format = strings.Repeat("../", 100)+"x", tar.FormatPAX }), "outside of the update", nil},
		{"element of 256 bytes in a directory", mauka(func(e *entry) { e.Name = below + long(256) + "/x" }), "with more than 255 bytes between two slashes", nil},
		{"global size", func(es []entry) []entry {
			g := tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "g", PAXRecords: map[string]string{"size": "7"}}
			return append([]entry{{g, ""}}, es...)
		}, "is a global header that sets \"size\"", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := compressed(t, packed(t, c.change(good())), update.TarGzip)
			refuses(t, b, update.TarGzip, Limits{}, c.want, c.kind)
		})
	}
}
