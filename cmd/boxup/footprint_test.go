package main

import (
	"debug/elf"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// What a box has room for.
const (
	maxMemory = 48 << 20 // bytes at the peak
	largeFile = 1 << 30  // bytes in the update that is installed for it
)

// crossBuild builds boxup as it is built for boxes, and returns its path.
func crossBuild(t *testing.T, arch string) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "../../packaging/build", dir, "-"+arch, "boxup")
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "GOARM=6", "VERSION=v7", "BUILT=2026-02-03T04:05:06Z")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("packaging/build for %s: %v\n%s", arch, err, out)
	}
	return filepath.Join(dir, "boxup-"+arch)
}

// TestPrograms builds boxup for boxes: static, and small. A box is an ARM; amd64, where tests and trials run, makes larger code.
func TestPrograms(t *testing.T) {
	t.Parallel()
	for arch, want := range map[string]struct {
		machine elf.Machine
		most    int64 // bytes, stripped
	}{"amd64": {elf.EM_X86_64, 8_300_000}, "arm": {elf.EM_ARM, 8_000_000}, "arm64": {elf.EM_AARCH64, 8_000_000}} {
		t.Run(arch, func(t *testing.T) {
			path := crossBuild(t, arch)
			info, err := os.Stat(path)
			check(t, err)
			t.Logf("%d bytes", info.Size())
			if info.Size() >= want.most {
				t.Errorf("expected less than %d bytes, got %d", want.most, info.Size())
			}
			f, err := elf.Open(path)
			check(t, err)
			defer f.Close()
			if f.Machine != want.machine || f.Section(".symtab") != nil {
				t.Errorf("machine %v, symbols %v", f.Machine, f.Section(".symtab"))
			}
			for _, p := range f.Progs {
				if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
					t.Errorf("not static: it has %v", p.Type)
				}
			}
		})
	}
}

// emulator returns a program that runs those of another processor.
func emulator(t *testing.T, arch string) string {
	t.Helper()
	for _, name := range []string{"qemu-" + arch, "qemu-" + arch + "-static"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatalf("qemu-%s is missing: apt-get install qemu-user", arch)
	return ""
}

// TestOnARM runs the program of a box with an ARMv6 processor, from check to what is installed.
func TestOnARM(t *testing.T) {
	t.Parallel()
	qemu, program := emulator(t, "arm"), crossBuild(t, "arm")
	w := newWorldAt(t, time.Now())
	w.publish(trust.Conditions{}, map[string][]byte{one: w.pack(one, "")})
	d := w.newDevice(map[string]any{"state": "../S", "root": "root.json"}, w.mirror())
	arm := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), qemu, append([]string{"-cpu", "arm1176", program}, args...)...).CombinedOutput()
		if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return string(out)
	}
	if got := arm("version"); !strings.Contains(got, "version: v7\nbuilt: 2026-02-03T04:05:06Z\n") || !strings.Contains(got, "platform: linux/arm\n") {
		t.Errorf("version: %s", got)
	}
	if got := arm("check", "--config", d.path("C/config.json")); !strings.Contains(got, "update: "+one) {
		t.Errorf("check: %s", got)
	}
	if got := arm("update", "--config", d.path("C/config.json")); !strings.Contains(got, "installed: "+one) {
		t.Errorf("update: %s", got)
	}
	d.has("100", "100")
	d.clean()
}

// TestHTTP1: boxup as it ships, which has no HTTP/2, updates from a server that would rather speak it.
func TestHTTP1(t *testing.T) {
	t.Parallel()
	program := crossBuild(t, runtime.GOARCH)
	w := newWorldAt(t, time.Now())
	w.publish(trust.Conditions{}, map[string][]byte{one: w.pack(one, "")})
	protocols := make(chan string, 1000)
	m := w.mirror()
	secure := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		protocols <- r.Proto
		m.ServeHTTP(rw, r)
	}))
	secure.EnableHTTP2 = true
	secure.StartTLS()
	t.Cleanup(secure.Close)
	d := w.newDevice(map[string]any{"state": "../S", "root": "root.json", "ca_file": "ca.pem"}, &mirror{Server: secure})
	check(t, os.WriteFile(d.path("C/ca.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}), 0o600))
	out, err := exec.CommandContext(t.Context(), program, "update", "--config", d.path("C/config.json")).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "installed: "+one) {
		t.Errorf("%v\n%s", err, out)
	}
	close(protocols)
	for p := range protocols {
		if p != "HTTP/1.1" {
			t.Errorf("expected HTTP/1.1, got %s", p)
		}
	}
	d.has("100", "100")
	d.clean()
}

// TestMemory installs an update of 1 GiB, of which nothing can be packed, and looks how much memory that
// took at its peak.
func TestMemory(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes five times 1 GiB of disk")
	}
	s := newSite(t)
	s.must(0, "boxsign init --keys K --repo R --yes")
	const name = "opq-box-update-100.tar.zst"
	s.script("DIR", "test $(stat -c %s data) = "+fmt.Sprint(largeFile))
	f, err := os.Create(s.path("DIR/data"))
	check(t, err)
	_, err = io.CopyN(f, rand.NewChaCha8([32]byte{}), largeFile)
	check(t, errors.Join(err, f.Close()))
	s.must(0, "boxsign build DIR -o "+name)
	s.must(0, "boxsign publish --keys K --yes "+name+" R")
	check(t, errors.Join(os.RemoveAll(s.path("DIR")), os.Remove(s.path(name))))
	base, _ := s.serve("serve --data-dir R --online-key K/online.pem")
	root, err := os.ReadFile(s.path("R/metadata/1.root.json"))
	check(t, err)
	s.must(0, "boxup init --config C/config.json --state S --root R/metadata/1.root.json --root-fingerprint "+update.Sum(root).String()+" "+base)
	began := time.Now()
	u := measure(t, "update", "--config", s.path("C/config.json"))
	if u.code != 0 || !strings.Contains(u.out, "installed: "+name) {
		t.Fatalf("exit code %d\n%s", u.code, u.out)
	}
	t.Logf("%.1f MiB at the peak, %.2f s of CPU, %v", float64(u.peak)/(1<<20), u.cpu, time.Since(began))
	if u.peak >= maxMemory {
		t.Errorf("expected less than %d bytes, got %d", maxMemory, u.peak)
	}
}

// usage is what a run of boxup took.
type usage struct {
	code int
	out  string
	peak int64   // bytes of memory
	cpu  float64 // seconds
}

// measure runs boxup. A process begins with the peak of the one that started it, which therefore is a small
// one.
func measure(t *testing.T, args ...string) usage {
	t.Helper()
	const program = `import resource, subprocess, sys
had = resource.getrusage(resource.RUSAGE_CHILDREN)
r = subprocess.run(["boxup"] + sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
u = resource.getrusage(resource.RUSAGE_CHILDREN)
print(r.returncode, u.ru_maxrss * 1024, u.ru_utime + u.ru_stime - had.ru_utime - had.ru_stime)
print(r.stdout.decode())`
	out, err := exec.CommandContext(t.Context(), "python3", append([]string{"-c", program}, args...)...).Output()
	check(t, err)
	first, rest, _ := strings.Cut(string(out), "\n")
	u := usage{out: rest}
	_, err = fmt.Sscan(first, &u.code, &u.peak, &u.cpu)
	check(t, err)
	return u
}

// TestFullList checks against a mirror with 2,000 updates, again and again, and looks how much memory and
// time that takes.
func TestFullList(t *testing.T) {
	t.Parallel()
	w := newWorldAt(t, time.Now())
	archives := map[string][]byte{}
	for i := range trust.MaxUpdates {
		archives[fmt.Sprintf("opq-box-update-%d.tar.gz", 1550000000+i)] = []byte(fmt.Sprint(i))
	}
	w.publish(trust.Conditions{}, archives)
	d := w.newDevice(map[string]any{"state": "../S", "root": "root.json"}, w.mirror())
	least, most := time.Hour.Seconds(), int64(0)
	for i := range 10 {
		u := measure(t, "check", "--config", d.path("C/config.json"))
		if u.code != status.ExitAvailable {
			t.Fatalf("exit code %d\n%s", u.code, u.out)
		}
		if most = max(most, u.peak); i > 0 {
			least = min(least, u.cpu)
		}
	}
	t.Logf("nothing new: %.1f ms of CPU, %.1f MiB at the peak", 1000*least, float64(most)/(1<<20))
	if most >= maxMemory {
		t.Errorf("expected less than %d bytes, got %d", maxMemory, most)
	}
}
