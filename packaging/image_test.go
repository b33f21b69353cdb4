package packaging_test

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/testworld"
)

// instruction returns what follows the last such instruction of the Dockerfile.
func instruction(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("Dockerfile")
	must(t, err)
	found := regexp.MustCompile(`(?m)^`+name+` (.*)$`).FindAllStringSubmatch(string(b), -1)
	if len(found) == 0 {
		t.Fatalf("the Dockerfile has no %s", name)
	}
	return found[len(found)-1][1]
}

// buildImage does in a directory what the Dockerfile does in two containers, and returns the root of the last. Its
// copies are done by hand, its commands by the shell, here: that takes no registry.
func buildImage(t *testing.T) (root string) {
	t.Helper()
	b, err := os.ReadFile("Dockerfile")
	must(t, err)
	text := strings.ReplaceAll(string(b), "\\\n", " ")
	out, root := filepath.Join(t.TempDir(), "out"), t.TempDir()
	must(t, os.Chmod(root, 0o755))
	build, last, found := strings.Cut(text, "\nFROM scratch\n")
	if !found {
		t.Fatal("the Dockerfile does not end on scratch")
	}
	for _, line := range regexp.MustCompile(`(?m)^RUN (.*)$`).FindAllStringSubmatch(build, -1) {
		cmd := exec.Command("sh", "-euc", strings.ReplaceAll(line[1], "/out/", out+"/"))
		cmd.Dir, cmd.Env = source, append(os.Environ(), "VERSION=v1.2.0", "BUILT=2019-02-15T00:31:23Z")
		run(t, cmd)
	}
	copies := regexp.MustCompile(`(?m)^COPY --from=build (?:--chown=(\d+):(\d+) )?/out/(\S+) (\S+)$`).FindAllStringSubmatch(last, -1)
	if len(copies) == 0 || len(copies) != strings.Count(last, "\nCOPY ")+strings.Count(last[:5], "COPY ") {
		t.Fatalf("got the copies %q of\n%s", copies, last)
	}
	for _, c := range copies {
		from, to := filepath.Join(out, c[3]), filepath.Join(root, c[4])
		if info, err := os.Stat(from); err != nil || info.IsDir() {
			must(t, err)
			from += "/."
		}
		run(t, exec.Command("cp", "-a", from, to))
		if c[1] != "" {
			run(t, exec.Command("sh", "-c", `find "$1" -mindepth 1 -exec chown "$2" {} +`, "sh", to, c[1]+":"+c[2]))
		}
	}
	return root
}

// The Dockerfile's own commands make a root in which the program runs as the container does: alone, as the user of the
// Dockerfile, with its settings and its health check, and with a volume that it can write to.
func TestImage(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		testworld.NotTested(t, "the program alone in an empty root", errors.New("root alone may change the root"))
	}
	root := buildImage(t)
	for _, volume := range words(t, instruction(t, "VOLUME")) {
		if info, err := os.Stat(filepath.Join(root, volume)); err != nil || !info.IsDir() {
			t.Errorf("%s: %v", volume, err)
		}
	}
	if b, err := os.ReadFile(filepath.Join(root, "etc/ssl/certs/ca-certificates.crt")); err != nil || !x509.NewCertPool().AppendCertsFromPEM(b) {
		t.Errorf("no certificate authorities: %v", err)
	}
	settings, found := strings.CutPrefix(instruction(t, "ENV"), "BOX_UPDATE_SERVER_SETTINGS=")
	if !found {
		t.Fatal("the Dockerfile sets no settings")
	}
	var object map[string]any
	must(t, json.Unmarshal([]byte(strings.Trim(settings, "'")), &object))
	if got := strconv.FormatFloat(object["port"].(float64), 'f', -1, 64); got != instruction(t, "EXPOSE") {
		t.Errorf("port %s is served, %s exposed", got, instruction(t, "EXPOSE"))
	}
	delete(object, "port")
	object["data_dir"] = "/data" // as README.md says
	port := freePort(t)
	object["listen"] = "127.0.0.1:" + port
	b, err := json.Marshal(object)
	must(t, err)

	container := func(args []string) *exec.Cmd {
		user, group, _ := strings.Cut(instruction(t, "USER"), ":")
		uid, err := strconv.ParseUint(user, 10, 32)
		must(t, err)
		gid, err := strconv.ParseUint(group, 10, 32)
		must(t, err)
		if uid == 0 || gid == 0 {
			t.Fatal("the container runs as root")
		}
		return &exec.Cmd{Path: args[0], Args: args, Dir: "/", Env: []string{"BOX_UPDATE_SERVER_SETTINGS=" + string(b)},
			SysProcAttr: &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}}
	}
	health := words(t, regexp.MustCompile(`\[.*\]`).FindString(instruction(t, "HEALTHCHECK")))
	if err := container(health).Run(); exitCode(err) != 3 {
		t.Errorf("health without a server: got %v", err)
	}
	server := container(words(t, instruction(t, "ENTRYPOINT")))
	server.Stderr = os.Stderr
	must(t, server.Start())
	eventually(t, "health", func() bool { return container(health).Run() == nil })
	if entries, err := os.ReadDir(filepath.Join(root, "data")); err != nil || len(entries) == 0 {
		t.Errorf("nothing was written to the volume: %v", err)
	}
	stop, found := map[string]syscall.Signal{"SIGTERM": syscall.SIGTERM}[instruction(t, "STOPSIGNAL")]
	if !found {
		t.Fatal("another signal than the one that lets downloads end")
	}
	must(t, server.Process.Signal(stop))
	must(t, server.Wait())
}

// words parses a command line in the form of a JSON list.
func words(t *testing.T, text string) (list []string) {
	t.Helper()
	must(t, json.Unmarshal([]byte(text), &list))
	return list
}
