package main_test

import (
	"encoding/json"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Commands say the same as JSON, and with --quiet nothing unless something is wrong.
func TestResultsAsJSONAndQuiet(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	origin := w.serve()
	w.list(map[string][]byte{newest: pattern(5 << 20)}).publish(t, origin.base)
	dir, file := filepath.Join(t.TempDir(), "M"), filepath.Join(t.TempDir(), "E")
	mirror := []string{"mirror", origin.base, "--data-dir", dir, "--root", w.pinned(), "--once"}
	for _, c := range []struct {
		args []string
		want map[string]any
	}{
		{mirror, map[string]any{"archives": 1.0, "bytes": 5242880.0}},
		{[]string{"export", "--data-dir", w.dir, file}, map[string]any{"archives": 1.0, "bytes": 5242880.0}},
		{[]string{"import", "--data-dir", dir, file}, map[string]any{"archives": 0.0, "bytes": 0.0}},
		{[]string{"import", "--unsigned", origin.base, "--updates-dir", t.TempDir()}, map[string]any{"archives": 1.0, "there": 0.0}},
		{[]string{"health", origin.base}, map[string]any{"ok": true, "server": origin.base}},
		{[]string{"status", "--data-dir", dir}, nil},
		{[]string{"version"}, map[string]any{"version": "unknown"}},
	} {
		out, err := exec.Command(program, append(c.args, "--json")...).Output()
		var got map[string]any
		if err := errors.Join(err, json.Unmarshal(out, &got)); err != nil {
			t.Errorf("%q: %v in %s", c.args, err, out)
		}
		for key, want := range c.want {
			if got[key] != want {
				t.Errorf("%q: %s is %v, want %v in %v", c.args, key, got[key], want, got)
			}
		}
	}
	for _, args := range [][]string{mirror, {"status", "--data-dir", dir}, {"health", origin.base}, {"fsck", "--data-dir", dir}, {"import", "--data-dir", dir, file}} {
		if out := exits(t, 0, append(args, "--quiet")...); out != "" {
			t.Errorf("%q --quiet: %q", args, out)
		}
	}
	if out := exits(t, 3, "health", "http://127.0.0.1:1", "-q"); !strings.HasPrefix(out, "box-update-server: ") {
		t.Errorf("a failure is said with --quiet too, got %q", out)
	}
	says(t, exits(t, 2, "export", "--data-dir", w.dir, "--quiet", "-"), "--quiet: the export would not be printed")
	exits(t, 2, "serve", "--quiet")
}
