package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/testworld"
)

// TestBefore: the configuration and the state that an earlier version left on a box are gone on with.
func TestBefore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	check(t, testworld.Before(dir))
	mirror := httptest.NewServer(http.FileServer(http.Dir(filepath.Join(dir, "origin"))))
	defer mirror.Close()
	config := filepath.Join(dir, "box", "config.json")
	text := must(os.ReadFile(config))
	check(t, os.WriteFile(config, bytes.ReplaceAll(text, []byte("http://127.0.0.1:18152"), []byte(mirror.URL)), 0o600))
	self := must(os.Executable())
	for args, want := range map[string]string{
		"update --config " + config: "up to date",
		"status --config " + config: "installed: meter-3.tar.gz",
		"status --config " + dir + "/plainbox.json --state " + dir + "/plainbox": "installed: meter-3.tar.gz",
	} {
		cmd := exec.CommandContext(t.Context(), self, strings.Fields(args)...)
		cmd.Env = append(os.Environ(), ordersVariable+"="+testworld.BeforeNow)
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), want) {
			t.Errorf("boxup %s: expected %q, got %v\n%s", args, want, err, out)
		}
	}
}
