package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"go.uber.org/goleak"

	"github.com/openpowerquality/box-update-server/update"
)

// TestUnpackBuilt unpacks what Build wrote and finds the tree that it was made of.
func TestUnpackBuilt(t *testing.T) {
	dir := plant(t, sortedFiles(), 0o755)
	for _, f := range formats {
		b := built(t, dir, f)
		accepts(t, b, f)
		got := unpacked(t, b, f)
		for file, want := range files() {
			if text, err := got.ReadFile(testTop + "/" + file); err != nil || string(text) != want {
				t.Errorf("%s: %s holds %q, %v; want %q", f, file, text, err, want)
			}
		}
	}
}

// TestUnpackGoTree unpacks a part of the Go tree, as tar packed it, and does what tar does.
func TestUnpackGoTree(t *testing.T) {
	tree := goTree(t, "net", "encoding")
	for _, f := range formats {
		t.Run(string(f), func(t *testing.T) {
			need(t, "tar", tools[f].program)
			path := filepath.Join(t.TempDir(), "u")
			command(t, "tar", "-C", tree, "-c", tools[f].flag, "-f", path, testTop)
			b, err := os.ReadFile(path)
			must(t, err)
			if r := inspect(t, b, f, Limits{}); r.Entries < 500 {
				t.Errorf("%d entries, want 500 or more", r.Entries)
			}
			accepts(t, b, f)
		})
	}
}

// goTree returns a directory with the top directory of an update that holds parts of Go's source.
func goTree(t testing.TB, parts ...string) string {
	t.Helper()
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	must(t, err)
	source := filepath.Join(strings.TrimSpace(string(goroot)), "src")
	out := t.TempDir()
	for _, part := range parts {
		to := filepath.Join(out, testTop, part)
		must(t, os.MkdirAll(filepath.Dir(to), 0o755))
		must(t, os.CopyFS(to, os.DirFS(filepath.Join(source, part))))
	}
	write(t, out, testTop+"/"+VersionFile, "1550190683\n", 0o644)
	write(t, out, testTop+"/"+InstallScript, "#!/bin/sh\n", 0o755)
	return out
}

func TestUnpackModes(t *testing.T) {
	es := good()
	for _, m := range []struct {
		name string
		mode int64
		want fs.FileMode
	}{
		{"none", 0, 0o400},
		{"all", 0o777, 0o755},
		{"sticky", 0o1666, 0o644},
		{"others", 0o001, 0o501},
		{"plain", 0o640, 0o640},
		{"dir/", 0, fs.ModeDir | 0o700},
		{"shared/", 0o7777, fs.ModeDir | 0o755},
	} {
		h := tar.Header{Typeflag: tar.TypeReg, Name: testTop + "/" + m.name, Mode: m.mode}
		if strings.HasSuffix(m.name, "/") {
			h.Typeflag = tar.TypeDir
		}
		t.Run(m.name, func(t *testing.T) {
			dir := unpacked(t, compressed(t, packed(t, append(es, entry{h, ""})), update.TarGzip), update.TarGzip)
			info, err := dir.Lstat(testTop + "/" + strings.TrimSuffix(m.name, "/"))
			must(t, err)
			if info.Mode() != m.want {
				t.Errorf("mode %04o: got %v, want %v", m.mode, info.Mode(), m.want)
			}
		})
	}
}

// TestUnpackUmask also holds that what the umask takes away is there again. The umask is one of the
// whole process: no test here runs in parallel.
func TestUnpackUmask(t *testing.T) {
	b := compressed(t, packed(t, good()), update.TarGzip)
	want := state(t, unpacked(t, b, update.TarGzip).Name())
	dir := fresh(t)
	defer syscall.Umask(syscall.Umask(0o077))
	_, err := Unpack(context.Background(), bytes.NewReader(b), name(t, update.TarGzip), dir, UnpackOptions{})
	must(t, err)
	same(t, state(t, dir.Name()), want)
}

// TestUnpackHardLinkMode holds that a script which is a hard link may be executed if its entry says so.
func TestUnpackHardLinkMode(t *testing.T) {
	es := good()
	h := tar.Header{Typeflag: tar.TypeLink, Name: testTop + "/" + InstallScript, Linkname: testTop + "/README", Mode: 0o755}
	*at(es, InstallScript) = entry{h, ""}
	dir := unpacked(t, compressed(t, packed(t, es), update.TarGzip), update.TarGzip)
	info, err := dir.Lstat(testTop + "/" + InstallScript)
	must(t, err)
	if info.Mode() != 0o755 {
		t.Errorf("got mode %v, want %v", info.Mode(), fs.FileMode(0o755))
	}
}

func TestUnpackTimes(t *testing.T) {
	for _, c := range []struct{ at, want time.Time }{
		{time.Unix(1550190683, 0), time.Unix(1550190683, 0)},
		{time.Unix(-5, 0), time.Unix(0, 0)},
		{time.Unix(1<<55, 0), time.Unix(maxTime, 0)},
	} {
		es := good()
		es[0].ModTime, at(es, "README").ModTime = c.at, c.at
		es[0].Format, at(es, "README").Format = tar.FormatPAX, tar.FormatPAX
		dir := unpacked(t, compressed(t, packed(t, es), update.TarGzip), update.TarGzip)
		for _, n := range []string{testTop, testTop + "/README"} {
			info, err := dir.Lstat(n)
			must(t, err)
			if !info.ModTime().Equal(c.want) {
				t.Errorf("%v: %s has the time %v, want %v", c.at, n, info.ModTime(), c.want)
			}
		}
	}
}

// TestUnpackDirectoriesInTurn goes back into directories, whose times a new file would change.
func TestUnpackDirectoriesInTurn(t *testing.T) {
	es, old := good(), time.Unix(1550190683, 0)
	for _, n := range []string{"a/", "b/", "a/1", "b/1", "a/2", "b/2"} {
		h := tar.Header{Typeflag: tar.TypeReg, Mode: 0o755, Name: testTop + "/" + n, ModTime: old}
		if strings.HasSuffix(n, "/") {
			h.Typeflag = tar.TypeDir
		}
		es = append(es, entry{h, ""})
	}
	dir := unpacked(t, compressed(t, packed(t, es), update.TarGzip), update.TarGzip)
	for _, n := range []string{"a", "b"} {
		info, err := dir.Lstat(testTop + "/" + n)
		must(t, err)
		if !info.ModTime().Equal(old) {
			t.Errorf("%s has the time %v, want %v", n, info.ModTime(), old)
		}
	}
}

func TestUnpackWantsAnEmptyDirectory(t *testing.T) {
	dir := fresh(t)
	must(t, dir.WriteFile("mine", []byte("x"), 0o600))
	b := compressed(t, packed(t, good()), update.TarGzip)
	_, err := Unpack(context.Background(), bytes.NewReader(b), name(t, update.TarGzip), dir, UnpackOptions{})
	if err == nil || !strings.Contains(err.Error(), `is not empty: it holds "mine"`) {
		t.Errorf("got error %v", err)
	}
	if got := state(t, dir.Name()); len(got) != 1 || !strings.HasPrefix(got[0], "/mine ") {
		t.Errorf("the directory holds %q, want what was there", got)
	}
}

// reading is a reader that does something at a read.
type reading struct {
	io.Reader
	at func(n int)
	n  int
}

func (r *reading) Read(p []byte) (int, error) {
	r.n++
	r.at(r.n)
	return r.Reader.Read(p)
}

// TestUnpackLeavesNothing tells the faults of readers, contexts and disks from those of archives.
func TestUnpackLeavesNothing(t *testing.T) {
	broken := errors.New("broken disk")
	for _, f := range formats {
		b := compressed(t, packed(t, append(good(), noise(600<<10)...)), f)
		for _, c := range []struct {
			name string
			want error
			at   func(n int, cancel context.CancelFunc)
			r    io.Reader
		}{
			{"cancelled before", context.Canceled, func(n int, cancel context.CancelFunc) { cancel() }, bytes.NewReader(b)},
			{"cancelled in the middle", context.Canceled, func(n int, cancel context.CancelFunc) {
				if n == 5 {
					cancel()
				}
			}, bytes.NewReader(b)},
			{"broken reader", broken, func(int, context.CancelFunc) {},
				io.MultiReader(bytes.NewReader(b[:len(b)/2]), iotest.ErrReader(broken))},
		} {
			t.Run(string(f)+" "+c.name, func(t *testing.T) {
				defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				r := &reading{Reader: c.r, at: func(n int) { c.at(n, cancel) }}
				dir := fresh(t)
				_, err := Unpack(ctx, r, name(t, f), dir, UnpackOptions{})
				if !errors.Is(err, c.want) || errors.Is(err, ErrImproper) {
					t.Errorf("got error %v, want %v", err, c.want)
				}
				empty(t, dir)
			})
		}
	}
}

// noise is a file of n bytes that hardly compress.
func noise(n int) []entry {
	body := make([]byte, n)
	x := uint32(1)
	for i := range body {
		x = x*1664525 + 1013904223
		body[i] = byte(x >> 24)
	}
	return []entry{{tar.Header{Typeflag: tar.TypeReg, Name: testTop + "/noise", Mode: 0o644, Size: int64(n)}, string(body)}}
}

// TestUnpackReadsNoMore refuses an archive at its beginning. The race detector sees a read that goes on.
func TestUnpackReadsNoMore(t *testing.T) {
	es := append([]entry{{tar.Header{Typeflag: tar.TypeReg, Name: "/x"}, ""}}, noise(2<<20)...)
	for _, f := range formats {
		reads := 0
		r := &reading{Reader: bytes.NewReader(compressed(t, packed(t, es), f)), at: func(int) { reads++ }}
		_, err := Unpack(context.Background(), r, name(t, f), fresh(t), UnpackOptions{})
		if !errors.Is(err, ErrImproper) || reads == 0 {
			t.Errorf("%s: got error %v after %d reads, want %v", f, err, reads, ErrImproper)
		}
	}
}

// TestUnpackSaysWhatItLeaves loses its directory while it works.
func TestUnpackSaysWhatItLeaves(t *testing.T) {
	dir := fresh(t)
	b := compressed(t, packed(t, good()), update.TarGzip)
	r := &reading{Reader: bytes.NewReader(b), at: func(int) { dir.Close() }}
	_, err := Unpack(context.Background(), r, name(t, update.TarGzip), dir, UnpackOptions{})
	if !errors.Is(err, fs.ErrClosed) || errors.Is(err, ErrImproper) || strings.Count(err.Error(), "file already closed") != 2 {
		t.Errorf("got error %v, want those of unpacking and of removing: %v", err, fs.ErrClosed)
	}
}

// smallDisk names the variable that holds a small file system for TestUnpackFullDisk.
const smallDisk = "ARCHIVE_TEST_SMALL_DISK"

// TestUnpackFullDisk runs itself where a small file system is mounted that nobody else sees.
func TestUnpackFullDisk(t *testing.T) {
	if at := os.Getenv(smallDisk); at != "" {
		fillDisk(t, at)
		return
	}
	if err := exec.Command("unshare", "-rm", "true").Run(); err != nil {
		t.Skipf("unshare -rm: %v", err)
	}
	for _, size := range []string{"size=64k", "nr_inodes=4", "nr_inodes=6"} {
		at := t.TempDir()
		cmd := exec.Command("unshare", "-rm", "sh", "-c",
			`mount -t tmpfs -o "$1" none "$2" && exec "$3" -test.run='^TestUnpackFullDisk$' -test.v`,
			"sh", size, at, os.Args[0])
		cmd.Env = append(os.Environ(), smallDisk+"="+at)
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Errorf("%s: %v\n%s", size, err, out)
		}
	}
}

func fillDisk(t *testing.T, at string) {
	for _, f := range formats {
		dir := filepath.Join(at, "work")
		must(t, os.Mkdir(dir, 0o700))
		b := compressed(t, packed(t, append(good()[:4], noise(100<<10)...)), f)
		_, err := Unpack(context.Background(), bytes.NewReader(b), name(t, f), root(t, dir), UnpackOptions{})
		if !errors.Is(err, syscall.ENOSPC) || errors.Is(err, ErrImproper) {
			t.Errorf("%s: got error %v, want %v", f, err, syscall.ENOSPC)
		}
		must(t, os.Remove(dir)) // only if it is empty
	}
}

// TestUnpackMemory unpacks large archives, whose streams repeat, in little memory.
func TestUnpackMemory(t *testing.T) {
	for _, f := range formats {
		t.Run(string(f), func(t *testing.T) {
			r, size := large(t, f)
			runtime.GC()
			before, most := inUse(), uint64(0)
			watched := &reading{Reader: r, at: func(int) { most = max(most, inUse()) }}
			got, err := Unpack(context.Background(), watched, name(t, f), fresh(t), UnpackOptions{})
			must(t, err)
			if got.Unpacked < size {
				t.Errorf("%d bytes unpacked, want %d", got.Unpacked, size)
			}
			if used := int64(most) - int64(before); used > mostMemory {
				t.Errorf("%d KiB used, want %d at most", used>>10, mostMemory>>10)
			}
		})
	}
}

// mostMemory is how many bytes Unpack may use with the default limits, garbage included.
const mostMemory = 32 << 20

// inUse returns the bytes of heap and stacks, garbage included.
func inUse() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// large returns an archive with a file of that many bytes, more than mostMemory. Its content is one
// compressed stream again and again, which for zstd is longer than its window.
func large(t *testing.T, f update.Format) (io.Reader, int64) {
	t.Helper()
	length, times, bits := 1<<20, 33, byte(0x07)
	if f == update.TarZstd {
		length, times, bits = zstdWindow+1<<20, 4, 0x3f // what each takes least time for
	}
	piece := []byte(noise(length)[0].body)
	for i := range piece {
		piece[i] &= bits
	}
	h := tar.Header{Typeflag: tar.TypeReg, Name: testTop + "/large", Mode: 0o644, Size: int64(times * length)}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	must(t, w.WriteHeader(&h))
	whole := packed(t, good())
	parts := []io.Reader{bytes.NewReader(compressed(t, append(whole[:len(whole)-1024:len(whole)-1024], b.Bytes()...), f))}
	body := compressed(t, piece, f)
	for range times {
		parts = append(parts, bytes.NewReader(body))
	}
	parts = append(parts, bytes.NewReader(compressed(t, make([]byte, 1024), f)))
	return io.MultiReader(parts...), h.Size
}

// BenchmarkUnpack hashes and unpacks Go's source, whose speed is to be held against that of
//
//	openssl dgst -sha256 U && tar -xf U
func BenchmarkUnpack(b *testing.B) {
	tree := goTree(b, ".")
	for _, f := range formats {
		b.Run(string(f), func(b *testing.B) {
			file, err := os.Create(filepath.Join(b.TempDir(), name(b, f).String()))
			must(b, err)
			defer file.Close()
			must(b, Build(context.Background(), file, root(b, filepath.Join(tree, testTop)), Options{Name: name(b, f)}))
			for b.Loop() {
				benchUnpack(b, file, name(b, f))
			}
		})
	}
}

func benchUnpack(b *testing.B, file *os.File, n update.Name) {
	b.Helper()
	out := fresh(b)
	for _, use := range []func() error{
		func() error {
			_, err := io.CopyBuffer(&update.Hasher{}, struct{ io.Reader }{file}, make([]byte, 1<<20))
			return err
		},
		func() error {
			r, err := Unpack(context.Background(), file, n, out, UnpackOptions{})
			b.SetBytes(r.Unpacked)
			return err
		},
	} {
		_, err := file.Seek(0, io.SeekStart)
		must(b, errors.Join(err, use()))
	}
	b.StopTimer()
	must(b, os.RemoveAll(out.Name()))
	b.StartTimer()
}
