package main_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// refused fails the test unless the program, with these settings in its environment, ends at once
// with status 1 and a message on stderr that holds the given texts. Nil settings: unset.
func refused(t *testing.T, settings []string, texts ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program)
	cmd.Env = os.Environ()
	for _, s := range settings {
		cmd.Env = append(cmd.Env, variable+"="+s)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("%q: got %v, want exit status 1; stderr %q", settings, err, &stderr)
	}
	for _, text := range append(texts, program+": ") {
		if !strings.Contains(stderr.String(), text) {
			t.Errorf("%q: stderr %q does not say %q", settings, &stderr, text)
		}
	}
}

// onPort starts a server with the old settings and nothing else.
func onPort(t *testing.T, dir string) (s *server, port int) {
	t.Helper()
	port = freePort(t)
	return launch{settings: map[string]any{"port": port, "updates_dir": dir}}.start(t), port
}

func settingsFromTheVariableAlone(t *testing.T) {
	_, port := onPort(t, dropped(t, newest))
	get(t, fmt.Sprintf("http://127.0.0.1:%d/ls", port)).is(t, 200, "text/plain", newest)
}

func portIsANumber(t *testing.T) {
	dir := t.TempDir()
	refused(t, []string{`{"port": "8151", "updates_dir": "` + dir + `"}`}, "port", "number")
	refused(t, []string{`{"port": 65536, "updates_dir": "` + dir + `"}`}, "port", "65536")
	refused(t, []string{`{"port": 0, "updates_dir": "` + dir + `"}`}, "port")
	refused(t, []string{`{"port": null, "updates_dir": "` + dir + `"}`}, "port")
	refused(t, []string{`{"updates_dir": "` + dir + `"}`}, "port")
}

func settingsAreAJSONObject(t *testing.T) {
	refused(t, nil, variable)
	refused(t, []string{""}, variable)
	refused(t, []string{`{"port": 8151,`}, variable, "JSON")
	refused(t, []string{`[8151]`}, variable, "JSON")
	refused(t, []string{`null`}, variable, "JSON")
}

func directoryIsRequired(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	refused(t, []string{`{"port": 8151}`}, "updates_dir")
	refused(t, []string{`{"port": 8151, "updates_dir": "` + missing + `"}`}, missing)
	refused(t, []string{`{"port": 8151, "updates_dir": "/dev/null"}`}, "/dev/null", "directory")
	refused(t, []string{`{"port": 8151, "updates_dir": "` + t.TempDir() + `", "data_dir": "` + missing + `"}`}, "data_dir", missing)
}

func unknownSettingsAreTolerated(t *testing.T) {
	s := launch{settings: map[string]any{"updates_dir": dropped(t, newest), "workers": 4}}.start(t)
	s.awaitLog(t, "level=WARN", "workers")
	get(t, s.base+"/version").is(t, 200, "text/plain", "1550190683")
}

func allInterfaces(t *testing.T) {
	s, port := onPort(t, dropped(t, newest))
	host, _, err := net.SplitHostPort(s.addr)
	if err != nil || !net.ParseIP(host).IsUnspecified() {
		t.Errorf("listens on %s, want all interfaces", s.addr)
	}
	get(t, fmt.Sprintf("http://127.0.0.2:%d/version", port)).is(t, 200, "text/plain", "1550190683")
}

func directoryIsOnlyRead(t *testing.T) {
	dir := dropped(t, newest)
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(dir, 0o755) }) // so that it can be removed
	before := snapshot(t, dir)
	s := launch{settings: map[string]any{"updates_dir": dir}, asNobody: true}.start(t)
	s.awaitHashed(t, newest)
	get(t, s.base+"/update/"+newest).isArchive(t, newest, body(newest))
	if after := snapshot(t, dir); after != before {
		t.Errorf("the directory was written to: was\n%s\nis\n%s", before, after)
	}
}

// snapshot tells the names, modes, sizes and times of a directory and its files.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil {
			fmt.Fprintln(&b, path, info.Mode(), info.Size(), info.ModTime())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func laterFilesAreServed(t *testing.T) {
	dir := t.TempDir()
	s := serve(t, dir)
	get(t, s.base+"/version").isNoVersion(t)
	sparse(t, dir, name(1999999999, "tar.bz2"), 0) // an upload that began an hour ago, and stalled
	s.awaitHealth(t, name(1999999999, "tar.bz2")+" left out, it is empty")
	write(t, dir, newest, body(newest))
	s.await(t, "/version", 200).is(t, 200, "text/plain", "1550190683")
	get(t, s.base+"/update/"+newest).isArchive(t, newest, body(newest))
}

// isNoVersion fails the test unless an answer is that of /version where there never was an update.
func (a answer) isNoVersion(t *testing.T) {
	t.Helper()
	a.is(t, 404, "text/plain", "Update dir does not contain any valid updates.")
}
