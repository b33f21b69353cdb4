package packaging_test

import (
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
)

// source is the top of the source tree.
const source = ".."

// epoch is when the release of the tests was made, in Unix seconds.
const epoch = "1550190683"

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// run runs a program and returns what it wrote to standard output.
func run(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s%s", cmd, err, out, stderr.String())
	}
	return string(out)
}

// need returns the path of a program of a Debian package; without it the test fails.
func need(t *testing.T, name, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is missing: apt-get install %s", name, pkg)
	}
	return path
}

// commands returns the names of the commands that are released.
func commands(t *testing.T) (names []string) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(source, "cmd", "*", "main.go"))
	must(t, err)
	for _, path := range found {
		names = append(names, filepath.Base(filepath.Dir(path)))
	}
	if len(names) < 2 {
		t.Fatalf("got the commands %q", names)
	}
	return names
}

// A release is made by the script that makes all of them.
type release struct {
	arches  string
	desktop string   // "" for none
	version string   // of the programs
	number  string   // of the update
	keys    string   // directory of the release key
	repo    string   // to publish at; "": nowhere
	in      string   // top of a source tree
	env     []string // what else the environment has
}

func newRelease() release {
	return release{arches: "amd64 armv6", desktop: "windows-amd64 darwin-arm64", version: "v1.2.0", number: epoch, in: source}
}

// make makes the release in a new directory, which it returns.
func (r release) make(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "dist")
	cmd := exec.Command(filepath.Join(r.in, "packaging", "release"))
	cmd.Env = append(os.Environ(), "OUT="+dir, "ARCHES="+r.arches, "DESKTOPS="+r.desktop, "VERSION="+r.version, "RELEASE="+r.number,
		"KEYS="+r.keys, "REPO="+r.repo, "YES=yes", "SOURCE_DATE_EPOCH="+epoch, "BOXSIGN_PASSPHRASE=mosaic-Tulip-93-harbor")
	cmd.Env = append(cmd.Env, r.env...)
	run(t, cmd)
	return dir
}

// eventually waits until cond holds, which it asks again and again.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	const patience = testworld.Patience
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain for: %s", patience, what)
		}
		<-tick.C
	}
}

// freePort returns a port that nobody listens on, below those that the kernel gives to clients.
func freePort(t *testing.T) (port string) {
	t.Helper()
	eventually(t, "a free port", func() bool {
		port = strconv.Itoa(20_000 + rand.IntN(10_000))
		l, err := net.Listen("tcp", "127.0.0.1:"+port)
		return err == nil && l.Close() == nil
	})
	return port
}
