package packaging_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// checkSelfUpdate lets the released boxup bring itself to the next release, through a mirror.
func checkSelfUpdate(t *testing.T, dist, boxsign string, r release) {
	t.Parallel()
	if !hasBoxup(t) {
		t.Skip("there is no boxup to release")
	}
	dir := filepath.Dir(r.keys)
	server := filepath.Join(dist, "box-update-server-linux-amd64")
	origin := startServer(t, server, "serve", "--data-dir", filepath.Join(dir, "R"), "--online-key", filepath.Join(r.keys, "online.pem"), "--product", "boxup")
	root := filepath.Join(dir, "R", "metadata", "1.root.json")
	publish := exec.Command(boxsign, "publish", "--keys", r.keys, "--yes", filepath.Join(dist, "boxup-"+epoch+".tar.bz2"), origin)
	publish.Env = append(os.Environ(), "BOXSIGN_PASSPHRASE=mosaic-Tulip-93-harbor")
	run(t, publish)
	mirror := startServer(t, server, "mirror", origin, "--root", root, "--data-dir", filepath.Join(dir, "M"), "--product", "boxup", "--interval", "1s")

	box := t.TempDir()
	boxup := filepath.Join(box, "boxup")
	copyFile(t, filepath.Join(dist, "boxup-linux-amd64"), boxup)
	copyFile(t, root, filepath.Join(box, "root.json"))
	b, err := json.Marshal(map[string]any{"mirrors": []string{mirror}, "product": "boxup", "root": "root.json", "state": filepath.Join(box, "state"), "reboot": "never"})
	must(t, err)
	config := filepath.Join(box, "config.json")
	must(t, os.WriteFile(config, b, 0o600))
	updates := func(number, version string) {
		t.Helper()
		eventually(t, number+" at the mirror", func() bool {
			out, err := exec.Command("curl", "-fsS", mirror+"/version").Output()
			return err == nil && string(out) == number
		})
		run(t, exec.Command(boxup, "update", "--config", config))
		if got := run(t, exec.Command(boxup, "--version")); !strings.Contains(got, version) {
			t.Errorf("after the update to %s: got %q, want %s", number, got, version)
		}
	}
	updates(epoch, "v1.2.0")
	r.desktop = ""
	r.arches, r.version, r.number, r.repo = "amd64", "v1.3.0", "1550190684", origin
	r.make(t)
	updates("1550190684", "v1.3.0")
	if got := run(t, exec.Command(boxup, "status", "--config", config)); !strings.Contains(got, "1550190684") {
		t.Errorf("got %s", got)
	}
}

// startServer starts a server on a port of its own until the test ends, and returns its URL.
func startServer(t *testing.T, server string, args ...string) string {
	t.Helper()
	address := "127.0.0.1:" + freePort(t)
	cmd := exec.Command(server, append(args, "--listen", address)...)
	must(t, cmd.Start())
	t.Cleanup(func() {
		must(t, cmd.Process.Signal(syscall.SIGTERM))
		must(t, cmd.Wait())
	})
	url := "http://" + address
	eventually(t, "the server", func() bool { return exec.Command(server, "health", "--live", url).Run() == nil })
	return url
}
