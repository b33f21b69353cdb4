package archive

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/update"
)

// A change of these digests means that the same sources give other archives than they did before: a
// library whose output changed may not be upgraded without saying so.
var golden = map[update.Format]string{
	update.TarBzip2: "2d8260f4b9d89cec8e0cbda4a96aa14a161644ac2deab91807ec239ebc8e593b",
	update.TarGzip:  "c544fefa1276a841c477424014345bf12428f8b65b2c5524c2838dc1571dd682",
	update.TarZstd:  "a5971d29997319d1274719c5ce9ae0519dd73c7ec409b9c09107bbe2b769d408",
}

func TestBuildIsReproducible(t *testing.T) {
	for _, f := range formats {
		t.Run(string(f), func(t *testing.T) {
			order := sortedFiles()
			first := built(t, plant(t, order, 0o755), f)
			if got := update.Sum(first).String(); got != golden[f] {
				t.Errorf("digest of the archive: got %s, want %s", got, golden[f])
			}
			slices.Reverse(order)
			other := plant(t, order, 0o700)
			must(t, os.Chtimes(filepath.Join(other, "README"), time.Unix(1, 0), time.Unix(1, 0)))
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
			for _, procs := range []int{1, 4} {
				runtime.GOMAXPROCS(procs)
				if !bytes.Equal(built(t, other, f), first) {
					t.Errorf("another archive from a tree made in another order, with other modes and times, GOMAXPROCS=%d", procs)
				}
			}
		})
	}
}

// TestBuildLargerThanBlocks compares archives that span many blocks of each compressor.
func TestBuildLargerThanBlocks(t *testing.T) {
	dir := plant(t, sortedFiles(), 0o755)
	var b strings.Builder
	for i := uint32(1); b.Len() < 1<<20; i = i*1664525 + 1013904223 {
		b.WriteString(strings.Repeat("word ", int(i>>29)))
		b.WriteByte(byte(i >> 24))
	}
	write(t, dir, "large", b.String(), 0o644)
	for _, f := range formats {
		t.Run(string(f), func(t *testing.T) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
			one := built(t, dir, f)
			runtime.GOMAXPROCS(4)
			four := built(t, dir, f)
			if !bytes.Equal(one, four) {
				t.Error("GOMAXPROCS changes the archive")
			}
			if r := inspect(t, one, f, Limits{}); !r.Proper() {
				t.Errorf("built an improper update: %q", r.Problems)
			}
		})
	}
}

func TestBuildTime(t *testing.T) {
	version := func(s string) update.Version {
		v, err := update.ParseVersion(s)
		must(t, err)
		return v
	}
	for _, c := range []struct {
		version string
		time    time.Time
		want    int64
	}{
		{"1550190683", time.Time{}, 1550190683},
		{"1550190683", time.Unix(1600000000, 5), 1600000000},
		{"8589934591", time.Time{}, 8589934591},
		{"8589934592", time.Time{}, 0},
		{"99999999999999999999999999999999", time.Time{}, 0},
		{"1", time.Unix(-5, 0), 0},
	} {
		o := Options{Name: update.NewName("p", version(c.version), update.TarGzip), Time: c.time}
		if got := o.time(); got.UnixNano() != c.want*1e9 {
			t.Errorf("version %s, time %v: got %d, want %d", c.version, c.time, got.Unix(), c.want)
		}
	}
}

func TestBuildIsProper(t *testing.T) {
	dir := plant(t, sortedFiles(), 0o755)
	must(t, os.Chmod(filepath.Join(dir, InstallScript), 0o600))
	must(t, os.Link(filepath.Join(dir, "README"), filepath.Join(dir, "README.again")))
	write(t, dir, VersionFile, "1550190683\n", 0o600)
	for _, f := range formats {
		t.Run(string(f), func(t *testing.T) {
			var names []string
			o := InspectOptions{Entry: func(e Entry) error {
				names = append(names, strings.TrimPrefix(e.Name, testTop+"/")+" "+e.Mode.String()+" "+e.Link)
				if !e.Time.Equal(time.Unix(1550190683, 0)) {
					t.Errorf("%s has time %v", e.Name, e.Time)
				}
				return nil
			}}
			r, err := Inspect(context.Background(), bytes.NewReader(built(t, dir, f)), name(t, f), o)
			must(t, err)
			if !r.Proper() || !r.InstallScript || r.Version.String() != "1550190683" {
				t.Errorf("built an improper update: %+v", r)
			}
			want := []string{
				" drwxr-xr-x ",
				"VERSION -rw-r--r-- ",
				"README -rw-r--r-- ",
				"README.again -rw-r--r-- ",
				"install_update.sh -rwxr-xr-x ",
				"opq/ drwxr-xr-x ",
				"opq/bin/ drwxr-xr-x ",
				"opq/bin/mauka -rwxr-xr-x ",
				"opq/etc/ drwxr-xr-x ",
				"opq/etc/current Lrwxrwxrwx ../bin/mauka",
				"opq/etc/empty -rw-r--r-- ",
				"opq/etc/mauka.json -rw-r--r-- ",
				"opq/lib/ drwxr-xr-x ",
				"opq/lib/" + long(150) + " -rw-r--r-- ",
				"opq/var/ drwxr-xr-x ",
			}
			if !slices.Equal(names, want) {
				t.Errorf("entries:\n got %q\nwant %q", names, want)
			}
		})
	}
}

func TestBuildRefuses(t *testing.T) {
	symlink := func(target, link string) func(*testing.T, string) {
		return func(t *testing.T, dir string) { must(t, os.Symlink(target, filepath.Join(dir, link))) }
	}
	for _, c := range []struct {
		name   string
		change func(t *testing.T, dir string)
		want   string
		is     error // nil for any
	}{
		{"no script", func(t *testing.T, dir string) {
			must(t, os.Remove(filepath.Join(dir, InstallScript)))
		}, "install_update.sh is missing at the top of", ErrNoInstallScript},
		{"script is a link", func(t *testing.T, dir string) {
			must(t, os.Rename(filepath.Join(dir, InstallScript), filepath.Join(dir, "real.sh")))
			symlink("real.sh", InstallScript)(t, dir)
		}, "install_update.sh is a symbolic link", ErrNoInstallScript},
		{"script is a directory", func(t *testing.T, dir string) {
			must(t, os.Remove(filepath.Join(dir, InstallScript)))
			must(t, os.Mkdir(filepath.Join(dir, InstallScript), 0o755))
		}, "install_update.sh is a directory", ErrNoInstallScript},
		{"script with CR LF", func(t *testing.T, dir string) {
			write(t, dir, InstallScript, "#!/bin/sh\r\n", 0o755)
		}, "install_update.sh has lines that end with CR LF", ErrImproper},
		{"capabilities", func(t *testing.T, dir string) {
			// CAP_NET_BIND_SERVICE, as linux/capability.h lays it out
			err := unix.Setxattr(filepath.Join(dir, "opq/bin/mauka"), "security.capability", []byte("\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 0)
			if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOTSUP) {
				testworld.NotTested(t, "files with capabilities", err)
			}
			must(t, err)
		}, "\"opq/bin/mauka\" has file capabilities, which an update does not carry", nil},
		{"other VERSION", func(t *testing.T, dir string) {
			write(t, dir, VersionFile, "1550190684\n", 0o644)
		}, "VERSION says 1550190684, the update is 1550190683", ErrVersion},
		{"no number in VERSION", func(t *testing.T, dir string) {
			write(t, dir, VersionFile, "v1\n", 0o644)
		}, "VERSION: version \"v1\": expected decimal digits", ErrVersion},
		{"long VERSION", func(t *testing.T, dir string) {
			write(t, dir, VersionFile, "1550190683"+strings.Repeat("\n", 60), 0o644)
		}, "VERSION: has more than 64 bytes", ErrVersion},
		{"VERSION is a link", symlink("README", VersionFile), "VERSION is a symbolic link", ErrVersion},
		{"absolute link", symlink("/etc/passwd", "l"), "\"l\" links to \"/etc/passwd\", outside", nil},
		{"link out", symlink("../x", "l"), "\"l\" links to \"../x\", outside", nil},
		{"link out from below", symlink("../../x", "opq/l"), "\"opq/l\" links to \"../../x\", outside", nil},
		{"link through links", symlink("opq/../x", "l"), "\"l\" links to \"opq/../x\", with .. after a name", nil},
		{"FIFO", func(t *testing.T, dir string) {
			must(t, syscall.Mkfifo(filepath.Join(dir, "opq/pipe"), 0o600))
		}, "\"opq/pipe\" is a FIFO", nil},
		{"socket", func(t *testing.T, dir string) {
			t.Chdir(dir) // the path of a socket is short
			l, err := net.Listen("unix", "sock")
			must(t, err)
			t.Cleanup(func() { l.Close() })
		}, "\"sock\" is a socket", nil},
		{"setuid", func(t *testing.T, dir string) {
			must(t, os.Chmod(filepath.Join(dir, "opq/bin/mauka"), 0o755|os.ModeSetuid))
		}, "\"opq/bin/mauka\" has a setuid or setgid bit", nil},
		{"setgid", func(t *testing.T, dir string) {
			must(t, os.Chmod(filepath.Join(dir, "opq/bin/mauka"), 0o755|os.ModeSetgid))
		}, "\"opq/bin/mauka\" has a setuid or setgid bit", nil},
		{"control character", func(t *testing.T, dir string) {
			write(t, dir, "a\nb", "", 0o644)
		}, "\"a\\nb\" has a control character in its name", nil},
		{"not UTF-8", func(t *testing.T, dir string) {
			write(t, dir, "a\xff", "", 0o644)
		}, "\"a\\xff\" has a name that is not UTF-8", nil},
		{"unreadable", func(t *testing.T, dir string) {
			if os.Getuid() == 0 {
				t.Skip("root reads everything")
			}
			must(t, os.Chmod(filepath.Join(dir, "README"), 0))
		}, "permission denied", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := plant(t, sortedFiles(), 0o755)
			c.change(t, dir)
			err := Build(context.Background(), io.Discard, root(t, dir), Options{Name: name(t, update.TarGzip)})
			if err == nil || !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("got error %v, want %q", err, c.want)
			}
		})
	}
}

// meddler calls change when it sees the first piece of a large file on its way into the archive.
type meddler struct{ change func() }

func (m *meddler) Write(p []byte) (int, error) {
	if m.change != nil && len(p) > 10<<10 {
		m.change()
		m.change = nil
	}
	return len(p), nil
}

func TestBuildRefusesFilesThatChange(t *testing.T) {
	large, past := strings.Repeat("0123456789", 1<<20), time.Unix(1500000000, 0)
	for _, c := range []struct {
		name   string
		change func(t *testing.T, path string)
	}{
		{"grows", func(t *testing.T, path string) {
			must(t, os.WriteFile(path, []byte(large+"more"), 0o644))
			must(t, os.Chtimes(path, time.Time{}, past))
		}},
		{"shrinks", func(t *testing.T, path string) {
			must(t, os.Truncate(path, 3))
			must(t, os.Chtimes(path, time.Time{}, past))
		}},
		{"touched", func(t *testing.T, path string) { must(t, os.Chtimes(path, time.Time{}, time.Unix(1, 0))) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := plant(t, sortedFiles(), 0o755)
			write(t, dir, "large", large, 0o644)
			must(t, os.Chtimes(filepath.Join(dir, "large"), time.Time{}, past))
			w := &meddler{func() { c.change(t, filepath.Join(dir, "large")) }}
			b := newBuilder(context.Background(), w, root(t, dir), Options{Name: name(t, update.TarGzip)})
			err := b.write(name(t, update.TarGzip).Version())
			if err == nil || err.Error() != "\"large\" changed while it was read" {
				t.Errorf("got error %v", err)
			}
		})
	}
}

func TestBuildKeepsToTheLimits(t *testing.T) {
	for _, c := range []struct {
		name   string
		limits Limits
		want   string
	}{
		{"entries", Limits{Entries: 13}, "more than 13 entries"},
		{"name", Limits{Name: 100}, "has a name of 184 bytes, more than 100"},
		{"bytes", Limits{Bytes: 8 << 10}, "the limit on unpacked bytes is exceeded"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := plant(t, sortedFiles(), 0o755)
			o := Options{Name: name(t, update.TarGzip), Limits: c.limits}
			err := Build(context.Background(), io.Discard, root(t, dir), o)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want %q", err, c.want)
			}
		})
	}
}

func TestBuildReportsErrors(t *testing.T) {
	dir := plant(t, sortedFiles(), 0o755)
	full := errors.New("disk full")
	for _, f := range formats {
		err := Build(context.Background(), failing{full}, root(t, dir), Options{Name: name(t, f)})
		if !errors.Is(err, full) {
			t.Errorf("%s: got error %v, want %v", f, err, full)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := Build(ctx, io.Discard, root(t, dir), Options{Name: name(t, update.TarGzip)}); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want %v", err, context.Canceled)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }
