package main_test

import (
	"bufio"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// oldServer starts a stand-in of the server that this one replaces, in its language.
func oldServer(t *testing.T, dir string) (base string, log *logged) {
	t.Helper()
	cmd := exec.Command(need(t, "python3", "python3"), filepath.Join("testdata", "oldserver.py"))
	log = &logged{}
	cmd.Stderr = log
	cmd.Env = append(os.Environ(), variable+"="+asJSON(t, map[string]any{"updates_dir": dir}))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		var exit *exec.ExitError
		if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
			t.Error(err)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	return "http://" + strings.TrimSpace(line), log
}

func TestImportUnsigned(t *testing.T) {
	t.Parallel()
	from, to := t.TempDir(), t.TempDir()
	pack(t, from, name(1540000000, "tar.bz2"), proper())
	pack(t, from, newest, map[string]os.FileMode{"VERSION": 0o644}) // as 20 of 54 old ones: without a script
	write(t, from, "opq-box-update-odd.tar.bz2", []byte("odd"))
	base, log := oldServer(t, from)
	if a := do(t, http.MethodHead, base+"/ls"); a.status != 501 {
		t.Fatalf("this is no old server: HEAD is answered with %d", a.status)
	}
	imported := func(code int) string {
		t.Helper()
		return exits(t, code, "import", "--unsigned", base, "--updates-dir", to, "--patience", "0s")
	}
	out := imported(0)
	says(t, out, digest(read(t, from, newest))+"  "+newest, newest+": has no install_update.sh",
		`left out: "opq-box-update-odd.tar.bz2" is no name of an update`, "imported 2 archives", "unsigned: nobody has vouched for")
	for _, n := range []string{name(1540000000, "tar.bz2"), newest} {
		if string(read(t, to, n)) != string(read(t, from, n)) {
			t.Errorf("%s has other bytes", n)
		}
		if info, err := os.Stat(filepath.Join(to, n)); err != nil || info.Mode() != 0o644 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
	}
	before, err := os.Stat(filepath.Join(to, newest))
	if err != nil {
		t.Fatal(err)
	}
	says(t, imported(0), "imported 0 archives, 0 bytes; 2 were there already")
	if after, err := os.Stat(filepath.Join(to, newest)); err != nil || !os.SameFile(before, after) {
		t.Errorf("a second import changed %s: %v", newest, err)
	}
	// What a person put there stays.
	mine := write(t, to, name(1540000001, "tar.bz2"), []byte("mine"))
	write(t, from, name(1540000001, "tar.bz2"), []byte("theirs, and longer"))
	write(t, from, name(1540000002, "tar.bz2"), []byte("after it"))
	says(t, imported(1), mine, "another file has this name: expected 18 bytes", "imported 1 archives", "got 4")
	if string(read(t, mine)) != "mine" || string(read(t, to, name(1540000002, "tar.bz2"))) != "after it" {
		t.Error("another file was replaced, or kept the next one from arriving")
	}
	if strings.Contains(log.String(), "Range") || !strings.Contains(log.String(), "GET /ls HTTP/1.1") {
		t.Errorf("log of the old server:\n%s", log)
	}
	// The fleet moves over.
	s := serve(t, to)
	s.awaitHashed(t, newest)
	says(t, get(t, s.base+"/latest").header.Get("Location"), newest)
	says(t, get(t, s.base+"/updates.json").body, `"signatures":{}`)
}

func TestImportUnsignedRefuses(t *testing.T) {
	t.Parallel()
	to := t.TempDir()
	says(t, exits(t, 2, "import", "--unsigned", "http://127.0.0.1:1"), "updates_dir is not set")
	says(t, exits(t, 1, "import", "--unsigned", "http://127.0.0.1:1", "--updates-dir", filepath.Join(to, "missing")), "no such file")
	says(t, exits(t, 2, "import", "--unsigned", "old-server", "--updates-dir", to), "expected the URL of a server")
	says(t, exits(t, 3, "import", "--unsigned", "http://127.0.0.1:1", "--updates-dir", to, "--patience", "0s"), "http://127.0.0.1:1/ls", "unavailable")
}

// An island is a server without an upstream: what it serves is carried to it while it runs.
func TestImportBesideAServer(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	origin := w.serve()
	w.list(map[string][]byte{newest: pattern(9 << 20)}).publish(t, origin.base)
	export := func(args ...string) string {
		t.Helper()
		file := filepath.Join(t.TempDir(), "E")
		exits(t, 0, append([]string{"export", "--data-dir", w.dir, file}, args...)...)
		return file
	}
	first := export()
	w.refresh(origin.base)
	w.list(map[string][]byte{name(1600000000, "tar.gz"): pattern(12 << 20)}).publish(t, origin.base)
	second := export("--since", "1550190683")

	dir := filepath.Join(t.TempDir(), "M")
	exits(t, 0, "import", "--data-dir", dir, "--root", w.pinned(), first)
	island := launch{args: []string{"serve", "--data-dir", dir, "--listen", "127.0.0.1:0"}}.start(t)
	down := w.mirror("http://127.0.0.1:1") // has nothing yet, and can't get it
	for label, c := range map[string]struct {
		dir, base string
		files     []string
	}{
		"island":                       {dir, island.base, []string{second}},
		"mirror whose upstream is off": {down.dir, down.base, []string{first, second}},
	} {
		t.Run(label, func(t *testing.T) {
			last := c.files[len(c.files)-1]
			damaged := filepath.Join(t.TempDir(), "damaged")
			b := read(t, last)
			b[len(b)-4<<20] ^= 1
			w.check(os.WriteFile(damaged, b, 0o644))
			cut := filepath.Join(t.TempDir(), "cut")
			w.check(os.WriteFile(cut, b[:5<<20], 0o644))
			root := []string{"--root", w.pinned(), "--data-dir", c.dir}
			says(t, exits(t, 4, append([]string{"import", cut}, root...)...), "admin: /import: import: ", "no whole export")
			says(t, exits(t, 4, append([]string{"import", damaged}, root...)...), "admin: /import: import:", "corrupt")
			for _, file := range c.files {
				says(t, exits(t, 0, append([]string{"import", file}, root...)...), "imported ")
			}
			w.serveAll(origin.base, c.base)
			says(t, exits(t, 0, append([]string{"import", last}, root...)...), "imported 0 archives")
			says(t, exits(t, 4, append([]string{"import", first}, root...)...), "older")
			w.serveAll(origin.base, c.base)
		})
	}
	says(t, exits(t, 0, "status", "--data-dir", dir), "snapshot 3 of 3")
}

// An origin has its updates from its signers.
func TestImportIntoAnOrigin(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	origin := w.serve()
	w.list(map[string][]byte{newest: pattern(40 << 20)}).publish(t, origin.base)
	file := filepath.Join(t.TempDir(), "E")
	exits(t, 0, "export", "--data-dir", w.dir, file)
	says(t, exits(t, 1, "import", "--data-dir", w.dir, file), "admin: /import: this is an origin")
}
