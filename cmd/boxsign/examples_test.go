package main

import (
	"cmp"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/testworld"
)

// exampleWorld is what every example finds: the keys K, those of a second signer in K2, the repository R, two updates, and the
// files that signers keep.
const exampleWorld = `
mkdir DIR
echo '#!/bin/sh' >DIR/install_update.sh
boxsign build DIR -o opq-box-update-1547861057.tar.bz2
boxsign build DIR -o $U
boxsign init --keys K --repo R
cp R/metadata/1.root.json K/release.pub .
boxsign backup --keys K -o keys.backup
for keys in K2 old other; do boxsign keygen --keys $keys release; done
boxsign keygen --keys K2 root
cp -r K/trusted K2/trusted
boxsign sign --keys K $U
(cd standin && CGO_ENABLED=0 GOARCH=arm GOARM=6 go build -o ../boxup .)
`

// exampleStories are what happened before an example, by the command that it runs.
var exampleStories = map[string]string{
	"build":           "rm $U",
	"bootstrap":       "rm $U",
	"init":            "rm -r K R",
	"keygen":          "rm K/release.*",
	"backup":          "rm keys.backup",
	"withdraw":        "boxsign add $U",
	"rollout pause":   "boxsign add --rollout 5%,24h:100% $U",
	"rollout resume":  "boxsign add --rollout 5%,24h:100% $U; boxsign rollout pause $U",
	"rollout finish":  "boxsign add --rollout 5%,24h:100% $U",
	"rollout show":    "boxsign add --rollout 5%,24h:100% $U",
	"cosign":          twoOfTwo + "; boxsign add $U",
	"abort":           "boxsign root add-key release K2/release.pub; boxsign add --hold $U",
	"root sign":       "boxsign root add-key root K2/root.pub; boxsign root threshold root 2",
	"root remove-key": "boxsign root add-key release old/release.pub",
	"root threshold":  "boxsign root add-key release K2/release.pub",
	"rollout":         "boxsign add --rollout 5%,24h:100% $U",
}

// exampleShell lets an example run without a person: commands that ask get --yes, and the update of old boxes the program boxup
// of this world.
const exampleShell = `
U=opq-box-update-1550190683.tar.bz2
boxsign() {
	case "$*" in
	bootstrap*) set -- "$@" --boxup boxup ;;
	init*|add*|publish*|withdraw*|rollout\ [prf]*|cosign*|abort*|renew*|root\ [artrs]*|rotate*)
		case "$*" in rollout\ show*|root\ show*) ;; *) set -- "$@" --yes ;; esac ;;
	esac
	command boxsign "$@"
}
`

// twoOfTwo lets lists need the release keys of both signers. The first list with two signatures precedes the threshold.
const twoOfTwo = "boxsign root add-key release K2/release.pub; boxsign root threshold release 2; " +
	"boxsign cosign --keys K2 --online-key K/online.pem; boxsign root threshold release 2"

// TestExamples runs each example in the help of each command, as it is written. An example may name the origin of the tours, for
// which one that serves R stands in.
func TestExamples(t *testing.T) {
	t.Parallel()
	examples := map[string]bool{}
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Example == "" && !cmd.HasSubCommands() { // the help of a command with commands below it shows an example of one of those
			t.Errorf("%s --help has no example", cmd.CommandPath())
		}
		for line := range strings.Lines(strings.ReplaceAll(cmd.Example, "\\\n", "")) {
			if line = strings.TrimSpace(line); line != "" {
				examples[line] = true
			}
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	root := newRoot(cli.System(), 0)
	walk(root)
	if len(examples) < 40 {
		t.Errorf("expected 40 examples and more, got %d", len(examples))
	}
	world := t.TempDir()
	standin := filepath.Join(world, "standin")
	err := errors.Join(os.Mkdir(standin, 0o755),
		os.WriteFile(filepath.Join(standin, "go.mod"), []byte("module example.com/standin/cmd/boxup\n\ngo 1.24\n"), 0o644),
		os.WriteFile(filepath.Join(standin, "main.go"), []byte("package main\n\nfunc main() {}\n"), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	playExample(t, world, exampleWorld)
	for line := range examples {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			if strings.Contains(line, "completion fish") {
				if _, err := exec.LookPath("fish"); err != nil {
					line = strings.TrimSuffix(line, " | source")
				}
			}
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(world)); err != nil {
				t.Fatal(err)
			}
			playExample(t, dir, "chmod 600 */*.pem")
			words := strings.Fields(line[strings.Index(line, "boxsign ")+len("boxsign "):])
			story := exampleStories[words[0]]
			if len(words) > 1 {
				story = cmp.Or(exampleStories[words[0]+" "+words[1]], story)
			}
			playExample(t, dir, story)
			const toured = "http://127.0.0.1:8151"
			if strings.Contains(line, toured) {
				line = strings.ReplaceAll(line, toured, serveExample(t, dir))
			}
			playExample(t, dir, line)
		})
	}
}

// playExample runs commands in the directory of an example, by bash, in which one example is written.
func playExample(t *testing.T, dir, commands string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-eu", "-c", exampleShell+commands)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "BOXSIGN_KEYS=K", "BOXSIGN_REPO=R", "BOXSIGN_PASSPHRASE=mosaic-Tulip-93-harbor", "BOXSIGN_BACKUP_PASSPHRASE=lantern-Quartz-58-meadow")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", commands, err, out)
	}
}

// serveExample serves the repository of an example until the test ends, and returns its URL.
func serveExample(t *testing.T, dir string) string {
	t.Helper()
	log := &watched{want: regexp.MustCompile(`msg=listening.* addr=(\S+)`), found: make(chan string, 1)}
	cmd := exec.Command("box-update-server", "serve", "--listen", "127.0.0.1:0", "--data-dir", "R", "--online-key", "K/online.pem")
	cmd.Dir, cmd.Stderr = dir, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait()); err != nil {
			t.Errorf("box-update-server: %v\n%s", err, log)
		}
	})
	select {
	case addr := <-log.found:
		return "http://" + addr
	case <-time.After(testworld.Patience):
		t.Fatalf("box-update-server does not listen: %s", log)
	}
	return ""
}
