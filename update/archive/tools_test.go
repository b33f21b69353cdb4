package archive

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/openpowerquality/box-update-server/update"
)

// tools are the programs that (un)pack each format, with tar's flag for it.
var tools = map[update.Format]struct{ program, flag string }{
	update.TarBzip2: {"bzip2", "-j"},
	update.TarGzip:  {"gzip", "-z"},
	update.TarZstd:  {"zstd", "--zstd"},
}

// need skips the test where one of the programs is not installed.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed", p)
		}
	}
}

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestTarUnpacks holds what Build writes against tar and the compressors.
func TestTarUnpacks(t *testing.T) {
	for _, f := range formats {
		t.Run(string(f), func(t *testing.T) {
			need(t, "tar", tools[f].program)
			dir, out := plant(t, sortedFiles(), 0o755), t.TempDir()
			path := filepath.Join(out, name(t, f).String())
			must(t, os.WriteFile(path, built(t, dir, f), 0o600))
			command(t, tools[f].program, "-t", path)
			if said := command(t, "tar", "-x", tools[f].flag, "-f", path, "-C", out); said != "" {
				t.Errorf("tar warns: %s", said)
			}
			write(t, dir, VersionFile, "1550190683\n", 0o644)
			if got, want := listing(t, filepath.Join(out, testTop)), listing(t, dir); !slices.Equal(got, want) {
				t.Errorf("unpacked:\n got %q\nwant %q", got, want)
			}
		})
	}
}

// listing says what lies below dir: path, type, the right to execute, content or target.
func listing(t *testing.T, dir string) []string {
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
		content := ""
		switch info.Mode().Type() {
		case 0:
			b, err := os.ReadFile(path)
			must(t, err)
			content = string(b)
		case fs.ModeSymlink:
			content, err = os.Readlink(path)
			must(t, err)
		}
		all = append(all, strings.TrimPrefix(path, dir)+" "+(info.Mode()&^0o677).String()+" "+content)
		return nil
	}))
	return all
}

// TestInspectWhatTarPacks holds Inspect against archives that tar made, in each way it can.
func TestInspectWhatTarPacks(t *testing.T) {
	parent := t.TempDir()
	must(t, os.Rename(plant(t, sortedFiles(), 0o755), filepath.Join(parent, testTop)))
	write(t, parent, testTop+"/VERSION", "1550190683\n", 0o664)
	must(t, os.Link(filepath.Join(parent, testTop, "README"), filepath.Join(parent, testTop, "README.again")))
	for _, f := range formats {
		for _, c := range []struct {
			name string
			args []string
		}{
			{"gnu", []string{"--format=gnu", testTop}},
			{"posix", []string{"--format=posix", testTop}},
			{"oldgnu", []string{"--format=oldgnu", testTop}},
			{"ustar", []string{"--format=ustar", "--exclude=nnn*", testTop}},
			{"v7", []string{"--format=v7", "--exclude=nnn*", testTop}},
			{"owners", []string{"--owner=anthony:1000", "--group=opq:1000", testTop}},
			{"from .", []string{"."}},
			{"with ./", []string{"./" + testTop}},
			{"slash at the end", []string{testTop + "/"}},
			{"sorted", []string{"--sort=name", "--mtime=@0", testTop}},
		} {
			t.Run(string(f)+" "+c.name, func(t *testing.T) {
				need(t, "tar", tools[f].program)
				path := filepath.Join(t.TempDir(), "u")
				command(t, "tar", slices.Concat([]string{"-C", parent, "-c", tools[f].flag, "-f", path}, c.args)...)
				b, err := os.ReadFile(path)
				must(t, err)
				r := inspect(t, b, f, Limits{})
				if !r.Proper() || r.Version.IsZero() || r.Entries < 14 {
					t.Errorf("got %+v, want a proper update", r)
				}
			})
		}
	}
}

// TestInspectZstdLevels holds the limit on the window against what the zstd program makes.
func TestInspectZstdLevels(t *testing.T) {
	need(t, "zstd")
	large := slices.Concat(packed(t, good()), make([]byte, 20<<20))
	for _, c := range []struct {
		args   []string
		proper bool
	}{
		{[]string{"-1"}, true},
		{[]string{"-19"}, true},
		{[]string{"--long=27"}, false},
	} {
		cmd := exec.Command("zstd", append(c.args, "-c")...)
		cmd.Stdin = bytes.NewReader(large)
		b, err := cmd.Output()
		must(t, err)
		r := inspect(t, b, update.TarZstd, Limits{})
		if r.Proper() != c.proper {
			t.Errorf("zstd %q: got problems %q, want proper: %v", c.args, r.Problems, c.proper)
		}
	}
}
