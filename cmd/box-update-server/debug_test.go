package main_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The admin listener of a mirror has metrics and profiles. The public one has no profiles, and no page in a
// browser gets them, whatever name led it there.
func TestAdminDebug(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	m := w.mirror(w.serve().base).synced(t)
	if a := get(t, m.admin+"/metrics"); a.status != 200 || !strings.Contains(a.body, "box_update_server_") {
		t.Errorf("metrics: %d, %.200s", a.status, a.body)
	}
	if a := get(t, m.admin+"/debug/pprof/cmdline"); a.status != 200 || !strings.Contains(a.body, "--data-dir") {
		t.Errorf("command line: %d, %q", a.status, a.body)
	}
	profile := filepath.Join(t.TempDir(), "heap")
	out, err := exec.Command("go", "tool", "pprof", "-proto", "-output", profile, m.admin+"/debug/pprof/heap").CombinedOutput()
	if err != nil || len(read(t, profile)) == 0 {
		t.Errorf("go tool pprof: %v\n%s", err, out)
	}
	if a := get(t, m.admin+"/debug/pprof/", "Sec-Fetch-Site", "cross-site"); a.status != 403 {
		t.Errorf("from a browser: %d", a.status)
	}
	get(t, m.base+"/debug/pprof/").isNotFound(t)
	_, port, _ := strings.Cut(m.admin[len("http://"):], ":")
	for host, status := range map[string]int{
		"127.0.0.1:" + port: 200, "localhost": 200, "LOCALHOST:" + port: 200, "[::1]:" + port: 200, "[::1]": 200,
		"rebound.example:" + port: 403, "rebound.example": 403, "localhost.rebound.example": 403, "127.0.0.1.rebound.example": 403,
	} {
		got := raw(t, m.admin[len("http://"):], "GET /status HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n")
		if want := fmt.Sprintf("HTTP/1.1 %d ", status); !strings.HasPrefix(got, want) {
			t.Errorf("as %s: want %s, got %.100q", host, want, got)
		}
	}
}
