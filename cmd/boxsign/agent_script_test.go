package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/openpowerquality/box-update-server/internal/testworld"
)

// agent starts an ssh-agent with a key for each name, and sets each name to what boxsign calls the key.
func agent(ts *testscript.TestScript, _ bool, names []string) {
	dir, err := os.MkdirTemp("", "agent-") // a socket's path must be short
	ts.Check(err)
	ts.Defer(func() { ts.Check(os.RemoveAll(dir)) })
	socket := filepath.Join(dir, "s")
	cmd := exec.Command("ssh-agent", "-D", "-a", socket)
	ts.Check(cmd.Start())
	ts.Defer(func() {
		ts.Check(cmd.Process.Kill())
		cmd.Wait() // killed
	})
	for deadline := time.Now().Add(testworld.Patience); ; {
		if _, err := os.Stat(socket); err == nil {
			break
		}
		if time.Now().After(deadline) {
			ts.Fatalf("no agent after %v", testworld.Patience)
		}
	}
	ts.Setenv("SSH_AUTH_SOCK", socket)
	for _, name := range names {
		key := filepath.Join(dir, name)
		ts.Check(ts.Exec("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key))
		ts.Check(ts.Exec("ssh-add", "-q", key))
		ts.Check(ts.Exec("ssh-keygen", "-l", "-f", key))
		ts.Setenv(name, "ssh-agent:"+strings.Fields(ts.ReadFile("stdout"))[1])
	}
}
