package main_test

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/testworld"
)

// SIGTERM: no new connections, but a download that runs comes to its end. Exit status 0.
func TestSIGTERMDrains(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const size = 16 << 20
	sparse(t, dir, newest, size)
	s := launch{settings: map[string]any{"updates_dir": dir, "drain": patience.String()}}.start(t)
	_, body := download(t, s, "/update/"+newest)
	s.signal(t, syscall.SIGTERM)
	testworld.Await(t, "the end of listening", func() bool { return !accepts(s.addr) })
	if s.exited() {
		t.Fatal("ended while a download was running")
	}
	if n, err := io.Copy(io.Discard, body); err != nil || n != size {
		t.Errorf("the download ended after %d of %d bytes: %v", n, size, err)
	}
	s.ends(t)
}

// A download that takes longer than the limit is cut, and that is no failure of the server.
func TestDrainHasALimit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const size = 16 << 20
	sparse(t, dir, newest, size)
	s := launch{settings: map[string]any{"updates_dir": dir, "drain": "100ms"}}.start(t)
	_, body := download(t, s, "/update/"+newest)
	s.stop(t)
	s.awaitLog(t, "level=WARN", "cut")
	if n, err := io.Copy(io.Discard, body); err == nil || n == size {
		t.Errorf("got %d bytes: %v", n, err)
	}
}

// configured starts a server from a file, which the returned function rewrites.
func configured(t *testing.T, settings map[string]any) (s *server, rewrite func(text string)) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.json")
	rewrite = func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	rewrite(asJSON(t, withAddress(settings)))
	return launch{args: []string{"serve", "--config", file}}.start(t), rewrite
}

func TestSIGHUPReloads(t *testing.T) {
	t.Parallel()
	dir := dropped(t, newest, "meter-7.tar.bz2")
	settings := map[string]any{"updates_dir": dir, "log_requests": false}
	s, rewrite := configured(t, settings)
	get(t, s.base+"/ls").is(t, 200, "text/plain", newest)
	_, body := download(t, s, "/update/"+newest)
	if line := s.log.line("msg=request"); line != "" {
		t.Errorf("logged although turned off: %s", line)
	}

	settings["product"], settings["log_requests"] = "meter", true
	rewrite(asJSON(t, withAddress(settings)))
	s.signal(t, syscall.SIGHUP)
	testworld.Await(t, "the other product", func() bool { return get(t, s.base+"/ls").body == "meter-7.tar.bz2" })
	s.awaitLog(t, "msg=request", "path=/ls")
	if b, err := io.ReadAll(body); err != nil || len(b) == 0 {
		t.Errorf("a download that ran ended after %d bytes: %v", len(b), err)
	}
}

func TestSIGHUPWithASettingThatNeedsARestart(t *testing.T) {
	t.Parallel()
	dir := dropped(t, newest)
	s, rewrite := configured(t, map[string]any{"updates_dir": dir})
	rewrite(asJSON(t, map[string]any{"updates_dir": dir, "listen": "127.0.0.1:1"}))
	s.signal(t, syscall.SIGHUP)
	s.awaitLog(t, "level=WARN", "restart", "127.0.0.1:1")
	get(t, s.base+"/ls").is(t, 200, "text/plain", newest)
}

func TestSIGHUPWithBadSettings(t *testing.T) {
	t.Parallel()
	dir := dropped(t, newest)
	s, rewrite := configured(t, map[string]any{"updates_dir": dir})
	for i, bad := range []string{`{"updates_dir":`, `{"updates_dir": "` + dir + `/gone", "listen": "127.0.0.1:0"}`} {
		rewrite(bad)
		s.signal(t, syscall.SIGHUP)
		testworld.Await(t, "a line for each bad reload", func() bool { return strings.Count(s.log.String(), "level=ERROR") == i+1 })
		get(t, s.base+"/ls").is(t, 200, "text/plain", newest)
	}
}

func TestJSONLog(t *testing.T) {
	t.Parallel()
	s := launch{settings: map[string]any{"updates_dir": dropped(t, newest), "log_format": "json"}}.start(t)
	get(t, s.base+"/update/"+newest, "Range", "bytes=0-9")
	s.awaitLog(t, `"msg":"request"`, `"method":"GET"`, `"path":"/update/`+newest+`"`, `"status":206`, `"bytes":10`, `"range":"bytes=0-9"`, `"duration":`)
}

func TestAddressInUse(t *testing.T) {
	t.Parallel()
	dir := dropped(t, newest)
	s := serve(t, dir)
	launch{args: []string{"serve", "--updates-dir", dir, "--listen", s.addr}}.run(t).fails(t, s.addr)
}

// Two servers never write to one data directory.
func TestDataDirectoryInUse(t *testing.T) {
	t.Parallel()
	dir, data := dropped(t, newest), t.TempDir()
	settings := map[string]any{"updates_dir": dir, "data_dir": data}
	launch{settings: settings}.start(t)
	launch{settings: settings}.run(t).fails(t, data)
}
