package packaging_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
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

// checkImage runs the program as the container does: alone in an empty root, as the user of the
// Dockerfile, with its settings and its health check. No image is built: that takes a registry.
func checkImage(t *testing.T, program string) {
	if os.Geteuid() != 0 {
		notTested(t, "the program alone in an empty root", "root alone may change the root")
	}
	if from := instruction(t, "FROM"); from != "scratch" {
		t.Fatalf("FROM %s", from)
	}
	root := t.TempDir()
	must(t, os.Chmod(root, 0o755))
	copyFile(t, program, filepath.Join(root, "box-update-server"))
	must(t, os.MkdirAll(filepath.Join(root, "var", "opq", "box-updates"), 0o755))
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
	must(t, server.Process.Signal(syscall.SIGTERM))
	must(t, server.Wait())
}

// words parses a command line in the form of a JSON list.
func words(t *testing.T, text string) (list []string) {
	t.Helper()
	must(t, json.Unmarshal([]byte(text), &list))
	return list
}
