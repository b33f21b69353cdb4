package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// manual returns docs/TRUST.md.
func manual(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "TRUST.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestManualExamples makes the files that the manual shows, with the same keys and on the same day.
func TestManualExamples(t *testing.T) {
	dir := t.TempDir()
	for i, name := range []string{"root", "release", "online"} {
		writeSeeded(t, filepath.Join(dir, "K", name+".pem"), byte(i+1))
	}
	if err := os.WriteFile(filepath.Join(dir, "p-7.tar.gz"), []byte("hello\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	script := `boxsign() { boxsign-at "$@"; }
boxsign init --keys K --repo R --yes
boxsign add --force --keys K --repo R --yes p-7.tar.gz
boxsign sign --force --keys K p-7.tar.gz`
	runManual(t, dir, script, "TEST_NOW=2030-01-01T00:00:00Z")
	examples := regexp.MustCompile("`([^`\n]+)`(?:, in hex)?:\n\n```\n([^`]*)\n```").FindAllStringSubmatch(manual(t), -1)
	checked := map[string]bool{}
	for _, e := range examples {
		raw, err := os.ReadFile(filepath.Join(dir, e[1]))
		if err != nil {
			t.Errorf("the manual shows %s: %v", e[1], err)
			continue
		}
		got := strings.TrimSuffix(string(raw), "\n")
		if strings.HasSuffix(e[1], ".sig") {
			got = hex.EncodeToString(raw)
		}
		if got != e[2] {
			t.Errorf("%s: the manual shows\n%s\nand boxsign makes\n%s", e[1], e[2], got)
		}
		checked[e[1]] = true
	}
	for _, name := range []string{"K/release.pub", "p-7.tar.gz.sha256", "p-7.tar.gz.sig", "R/metadata/1.root.json", "R/metadata/2.targets.json", "R/metadata/2.snapshot.json", "R/metadata/timestamp.json", "R/metadata/ledger"} {
		if !checked[name] {
			t.Errorf("%s: the manual doesn't show it", name)
		}
	}
}

// writeSeeded writes the private key whose seed is 32 times b.
func writeSeeded(t *testing.T, path string, b byte) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, ed25519.SeedSize)))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// builtOn are the procedures of the manual that follow another one than the first; the first follows none.
var builtOn = map[string]string{
	"First set-up":           "",
	"Two of three must sign": "A second signer",
	"Lost root key":          "Two of three must sign",
}

// procedure is one of the manual. It is run once, in a copy of what the one before it left: most of the time passes in deriving
// keys from passphrases.
type procedure struct {
	commands string
	before   *procedure
	run      func() (dir string, err error)
}

// TestManualProcedures says every command of the manual.
func TestManualProcedures(t *testing.T) {
	procedures := map[string]*procedure{"": {run: sync.OnceValues(func() (string, error) {
		dir := t.TempDir()
		return dir, runScript(t, dir, made)
	})}}
	var order []string
	_, text, ok := strings.Cut(manual(t), "\n## Procedures\n")
	if !ok {
		t.Fatal("the manual has no procedures")
	}
	for _, section := range strings.Split(text, "\n### ")[1:] {
		title, body, _ := strings.Cut(section, "\n")
		p := &procedure{}
		for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(body, -1) {
			p.commands += block[1]
		}
		procedures[title] = p
		order = append(order, title)
	}
	if len(order) < 10 {
		t.Fatalf("expected 10 procedures and more, got %q", order)
	}
	for _, title := range order {
		p, before := procedures[title], "First set-up"
		if other, special := builtOn[title]; special {
			before = other
		}
		if p.before = procedures[before]; p.before == nil || p.commands == "" {
			t.Fatalf("%s: has no command, or %s has none", title, before)
		}
		dir := t.TempDir()
		p.run = sync.OnceValues(func() (string, error) {
			from, err := p.before.run()
			if err != nil {
				return "", fmt.Errorf("%s, which comes before: %w", before, err)
			}
			if out, err := exec.CommandContext(t.Context(), "cp", "-a", from+"/.", dir).CombinedOutput(); err != nil {
				return "", fmt.Errorf("%w: %s", err, out)
			}
			return dir, runScript(t, dir, setting+p.commands, "BOXSIGN_PASSPHRASE=mosaic-Tulip-93-harbor", "BOXSIGN_BACKUP_PASSPHRASE=lantern-Quartz-58-meadow")
		})
	}
	for _, title := range order {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			if _, err := procedures[title].run(); err != nil {
				t.Error(err)
			}
		})
	}
}

// made is what lies there before the first procedure.
const made = `
mkdir DIR
echo '#!/bin/sh' >DIR/install_update.sh
for n in 3 4 5 6; do boxsign build DIR -o opq-box-update-155019068$n.tar.bz2; done
`

// setting is what the procedures take for granted. The person who confirms is --yes; the command that
// stops until others have signed is said again by the manual.
const setting = `
boxsign() {
	case "$*" in
	key*|sign*|verify*|status*|build*|backup*|restore*|"rollout show"*) command boxsign "$@" ;;
	*) command boxsign "$@" --yes ;;
	esac
}
U=opq-box-update-1550190683.tar.bz2
U2=opq-box-update-1550190684.tar.bz2
U3=opq-box-update-1550190685.tar.bz2
U4=opq-box-update-1550190686.tar.bz2
export BOXSIGN_KEYS=$PWD/keys BOXSIGN_REPO=$PWD/updates
`

func runManual(t *testing.T, dir, script string, env ...string) {
	t.Helper()
	if err := runScript(t, dir, script, env...); err != nil {
		t.Fatal(err)
	}
}

// runScript runs a script of a page in a directory.
func runScript(t *testing.T, dir, script string, env ...string) error {
	cmd := exec.CommandContext(t.Context(), "sh", "-eu", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s\n%s", err, script, out)
	}
	return nil
}
