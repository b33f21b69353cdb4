package main_test

import (
	"os/exec"
	"strings"
	"testing"
)

// The admin socket of a mirror has metrics and profiles. The public listener has no profiles.
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
	heap := write(t, t.TempDir(), "heap", []byte(get(t, m.admin+"/debug/pprof/heap").body))
	out, err := exec.Command("go", "tool", "pprof", "-top", heap).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "heap") && !strings.Contains(string(out), "inuse_space") {
		t.Errorf("go tool pprof: %v\n%s", err, out)
	}
	get(t, m.base+"/debug/pprof/").isNotFound(t)
}
