package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/update"
)

const testTop = "opq-box-update-1550190683"

var formats = []update.Format{update.TarBzip2, update.TarGzip, update.TarZstd}

func name(t testing.TB, f update.Format) update.Name {
	t.Helper()
	n, err := update.ParseName(testTop + "." + string(f))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// files are the regular files of a small tree; those that end in .sh or lie in bin may be executed.
func files() map[string]string {
	return map[string]string{
		"install_update.sh":    "#!/bin/sh\ncp -r opq/* /usr/local/bin/opq/\n",
		"opq/bin/mauka":        "\x7fELF pretend",
		"opq/etc/mauka.json":   "{\"rate\": 12000}\n",
		"opq/etc/empty":        "",
		"opq/lib/" + long(150): "a name that ustar can't hold\n",
		"README":               "an update of the tests\n",
	}
}

func long(n int) string { return string(bytes.Repeat([]byte("n"), n)) }

// plant writes a tree in the order given and returns its directory.
func plant(t testing.TB, order []string, perm os.FileMode) string {
	t.Helper()
	dir := t.TempDir()
	content := files()
	for _, f := range order {
		mode := perm &^ 0o111
		if filepath.Ext(f) == ".sh" || filepath.Base(filepath.Dir(f)) == "bin" {
			mode = perm
		}
		write(t, dir, f, content[f], mode)
	}
	must(t, os.Symlink("../bin/mauka", filepath.Join(dir, "opq/etc/current")))
	must(t, os.Mkdir(filepath.Join(dir, "opq/var"), perm))
	return dir
}

func sortedFiles() []string { return slices.Sorted(maps.Keys(files())) }

func write(t testing.TB, dir, file, content string, perm os.FileMode) {
	t.Helper()
	path := filepath.Join(dir, file)
	must(t, os.MkdirAll(filepath.Dir(path), perm|0o700))
	must(t, os.WriteFile(path, []byte(content), 0o600))
	must(t, os.Chmod(path, perm))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func root(t testing.TB, dir string) *os.Root {
	t.Helper()
	r, err := os.OpenRoot(dir)
	must(t, err)
	t.Cleanup(func() { r.Close() })
	return r
}

func built(t testing.TB, dir string, f update.Format) []byte {
	t.Helper()
	var b bytes.Buffer
	must(t, Build(context.Background(), &b, root(t, dir), Options{Name: name(t, f)}))
	return b.Bytes()
}

func inspect(t testing.TB, b []byte, f update.Format, l Limits) Report {
	t.Helper()
	r, err := Inspect(context.Background(), bytes.NewReader(b), name(t, f), InspectOptions{Limits: l})
	must(t, err)
	return r
}

// entry is one entry of a hand-made archive.
type entry struct {
	tar.Header
	body string
}

// good are the entries of a proper update.
func good() []entry {
	at := time.Unix(1550190683, 0)
	dir := func(n string) entry {
		return entry{tar.Header{Typeflag: tar.TypeDir, Name: testTop + "/" + n, Mode: 0o755, ModTime: at}, ""}
	}
	file := func(n string, mode int64, body string) entry {
		return entry{tar.Header{Typeflag: tar.TypeReg, Name: testTop + "/" + n, Mode: mode, Size: int64(len(body)), ModTime: at}, body}
	}
	link := entry{tar.Header{Typeflag: tar.TypeSymlink, Name: testTop + "/opq/current", Linkname: "../README", Mode: 0o777, ModTime: at}, ""}
	return []entry{
		dir(""),
		file("VERSION", 0o644, "1550190683\n"),
		file("README", 0o644, "read me"),
		file("install_update.sh", 0o755, "#!/bin/sh\n"),
		dir("opq/"),
		link,
		file("opq/mauka", 0o755, "\x7fELF pretend"),
	}
}

// packed returns the tar archive of the entries.
func packed(t testing.TB, entries []entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := e.Header
		must(t, w.WriteHeader(&h))
		_, err := io.WriteString(w, e.body)
		must(t, err)
	}
	must(t, w.Close())
	return b.Bytes()
}

func compressed(t testing.TB, b []byte, f update.Format) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := compress(f, &out)
	must(t, err)
	_, err = w.Write(b)
	must(t, err)
	must(t, w.Close())
	return out.Bytes()
}
