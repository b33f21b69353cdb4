package packaging_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// putInPlace runs the script of a bootstrap update for the root of an image, with the programs of a small box.
func putInPlace(t *testing.T, image, config string) (out string, err error) {
	t.Helper()
	dir, bin := t.TempDir(), t.TempDir()
	for _, name := range []string{"cat", "chmod", "cp", "dirname", "ln", "mkdir", "mv", "readlink", "rm", "sync"} { // no cmp
		path, err := exec.LookPath(name)
		must(t, err)
		must(t, os.Symlink(path, filepath.Join(bin, name)))
	}
	script, err := os.ReadFile("bootstrap/install_update.sh")
	must(t, err)
	for name, text := range map[string]string{
		"install_update.sh": string(script), "boxup": "#!/bin/sh\n", "root.json": "{\"a\": 1}\n",
		"config.json": config, "boxup.service": "[Service]\n", "boxup.timer": "[Timer]\n",
	} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755))
	}
	cmd := exec.Command("/bin/sh", filepath.Join(dir, "install_update.sh"))
	cmd.Env = []string{"PATH=" + bin, "BOXUP_ROOT=" + image}
	b, err := cmd.CombinedOutput()
	return string(b), err
}

// TestBootstrap puts boxup on boxes that are not as new, without cmp.
func TestBootstrap(t *testing.T) {
	const config, root, timer = "etc/boxup/config.json", "etc/boxup/root.json", "etc/systemd/system/boxup.timer"
	for name, c := range map[string]struct {
		files map[string]string // what is there; "@" begins the target of a link
		want  map[string]string
		says  string // where it is refused
	}{
		"nothing":      {nil, map[string]string{config: "{\"mirrors\": []}\n", root: "{\"a\": 1}\n", timer: "[Timer]\n"}, ""},
		"its own":      {map[string]string{config: "{}", root: "{\"a\": 1}\n"}, map[string]string{config: "{}", timer: "[Timer]\n"}, ""},
		"empty config": {map[string]string{config: "", root: ""}, map[string]string{config: "{\"mirrors\": []}\n", root: "{\"a\": 1}\n"}, ""},
		"another root": {map[string]string{root: "{\"a\": 2}\n"}, map[string]string{root: "{\"a\": 2}\n"}, "is another root than the one of this update; nothing was changed"},
		"masked":       {map[string]string{timer: "@/dev/null"}, map[string]string{timer: "@/dev/null", config: "{\"mirrors\": []}\n"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			image := t.TempDir()
			for path, text := range c.files {
				path = filepath.Join(image, path)
				must(t, os.MkdirAll(filepath.Dir(path), 0o755))
				if target, link := strings.CutPrefix(text, "@"); link {
					must(t, os.Symlink(target, path))
				} else {
					must(t, os.WriteFile(path, []byte(text), 0o644))
				}
			}
			out, err := putInPlace(t, image, "{\"mirrors\": []}\n")
			if (err != nil) != (c.says != "") || !strings.Contains(out, c.says) {
				t.Fatalf("%v, want %q\n%s", err, c.says, out)
			}
			for path, want := range c.want {
				path = filepath.Join(image, path)
				target, err := os.Readlink(path)
				got := "@" + target
				if err != nil {
					b, err := os.ReadFile(path)
					must(t, err)
					got = string(b)
				}
				if got != want {
					t.Errorf("%s holds %q, want %q", path, got, want)
				}
			}
			enabled := filepath.Join(image, "etc/systemd/system/timers.target.wants/boxup.timer")
			if _, err := os.Lstat(enabled); (err == nil) != (c.says == "" && name != "masked") {
				t.Errorf("%s: %v", enabled, err)
			}
		})
	}
}

// A configuration with the password of a mirror is not for everybody to read.
func TestBootstrapKeepsAPassword(t *testing.T) {
	for config, want := range map[string]os.FileMode{
		`{"mirrors": ["http://u:secret@mirror.example"]}`: 0o600,
		`{"mirrors": ["http://mirror.example"]}`:          0o644,
	} {
		image := t.TempDir()
		if out, err := putInPlace(t, image, config); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		info, err := os.Stat(filepath.Join(image, "etc/boxup/config.json"))
		must(t, err)
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", config, got, want)
		}
	}
}
