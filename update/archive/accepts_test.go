package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/update"
)

// accepts asserts that Inspect and Unpack find a proper update, and that Unpack makes of it what tar
// does.
func accepts(t *testing.T, b []byte, f update.Format) {
	t.Helper()
	r := inspect(t, b, f, Limits{})
	if !r.Proper() || !r.InstallScript || r.Version.IsZero() {
		t.Errorf("inspect: got %+v, want a proper update", r)
	}
	dir := fresh(t)
	got, err := Unpack(context.Background(), bytes.NewReader(b), name(t, f), dir, UnpackOptions{})
	must(t, err)
	if fmt.Sprint(got) != fmt.Sprint(r) {
		t.Errorf("unpack: got %+v, inspect %+v", got, r)
	}
	need(t, "tar", tools[f].program)
	tars := t.TempDir()
	path := filepath.Join(t.TempDir(), "u")
	must(t, os.WriteFile(path, b, 0o600))
	command(t, "sh", "-c", `umask 022; exec tar --no-same-permissions -x "$@"`, "sh", tools[f].flag, "-f", path, "-C", tars)
	same(t, state(t, dir.Name()), state(t, tars))
}

// unpacked returns the directory that a good archive is unpacked into.
func unpacked(t *testing.T, b []byte, f update.Format) *os.Root {
	t.Helper()
	dir := fresh(t)
	_, err := Unpack(context.Background(), bytes.NewReader(b), name(t, f), dir, UnpackOptions{})
	must(t, err)
	return dir
}

// when returns the time of a file, or "now" for one that got none from an archive.
func when(info fs.FileInfo) string {
	if time.Since(info.ModTime()) < time.Hour {
		return "now"
	}
	return info.ModTime().UTC().Format(time.RFC3339Nano)
}

// state says what lies below dir: name, mode, time, links, and the content or target. Symbolic links
// are shown without mode and time.
func state(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		line := strings.TrimPrefix(path, dir)
		switch info.Mode().Type() {
		case 0:
			b, err := os.ReadFile(path)
			must(t, err)
			line += fmt.Sprintf(" %v %s %d links %v", info.Mode(), when(info), info.Sys().(*syscall.Stat_t).Nlink, update.Sum(b))
		case fs.ModeDir:
			line += fmt.Sprintf(" %v %s", info.Mode(), when(info))
		case fs.ModeSymlink:
			target, err := os.Readlink(path)
			must(t, err)
			line += " -> " + target
		}
		all = append(all, line)
		return nil
	}))
	return all
}

// same asserts that two trees are the same.
func same(t *testing.T, got, want []string) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Errorf("got %d files, want %d; the first difference is\n got %q\nwant %q",
				len(got), len(want), got[min(i, len(got)):min(i+1, len(got))], want[min(i, len(want)):min(i+1, len(want))])
			return
		}
	}
}

// TestAccepts changes one thing that honest archives differ in.
func TestAccepts(t *testing.T) {
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
			es[0].Mode = 0o1775
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
		{"version in lower case without newline", func(es []entry) []entry {
			v := at(es, "VERSION")
			v.Name, v.body, v.Size = testTop+"/version", "1550190683", 10
			return es
		}},
		{"files that their owner can't write", func(es []entry) []entry {
			for i := range es {
				es[i].Mode &^= 0o222
			}
			es[0].Mode, es[4].Mode = 0o755, 0o755
			return es
		}},
		{"extended attributes", func(es []entry) []entry {
			at(es, "opq/mauka").PAXRecords = map[string]string{"SCHILY.xattr.user.x": "y"}
			return es
		}},
		{"file with the target of a link", func(es []entry) []entry { at(es, "VERSION").Linkname = "x"; return es }},
		{"fractions of a second", func(es []entry) []entry {
			e := at(es, "opq/mauka")
			e.ModTime, e.Format = e.ModTime.Add(time.Second/4), tar.FormatPAX
			return es
		}},
		{"200 directories deep", more(tar.Header{Typeflag: tar.TypeReg, Name: testTop + "/" + strings.Repeat("d/", 200) + "x", Mode: 0o644})},
		{"long name in GNU format", more(tar.Header{Typeflag: tar.TypeDir, Name: testTop + "/" + long(200) + "/", Mode: 0o755, Format: tar.FormatGNU})},
		{"long name in PAX format", more(tar.Header{Typeflag: tar.TypeDir, Name: testTop + "/" + long(200) + "/", Mode: 0o755, Format: tar.FormatPAX})},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := compressed(t, packed(t, c.change(good())), update.TarGzip)
			accepts(t, b, update.TarGzip)
		})
	}
}
