package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/testworld"
)

// commands returns the blocks of commands of a page, in their order.
func commands(t *testing.T, page string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", page))
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	for _, b := range blocks {
		script.WriteString(b[1])
	}
	if len(blocks) == 0 {
		t.Fatalf("%s has no commands", page)
	}
	if first, _, _ := strings.Cut(string(text), "```"); strings.Count(first, "\n") > 3 {
		t.Errorf("%s does not begin with a command", page)
	}
	return script.String()
}

// useFreePorts replaces the ports of a page by free ones.
func useFreePorts(t *testing.T, script string) string {
	t.Helper()
	ports := map[string]string{}
	return regexp.MustCompile(`127\.0\.0\.1:8\d\d\d`).ReplaceAllStringFunc(script, func(address string) string {
		if ports[address] == "" {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ports[address] = l.Addr().String()
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
		return ports[address]
	})
}

// signerPrelude is what the pages assume: the person who confirms is --yes; servers run beside the shell
// until it ends, are ready when the next command comes, and one that is started again has ended before.
const signerPrelude = `
boxsign() {
	case "$*" in
	key*|ls*|sign*|verify*|status*|build*|inspect*|diff*|backup*|restore*|"rollout show"*|"root show"*) command boxsign "$@" ;;
	*) command boxsign "$@" --yes ;;
	esac
}
declare -A servers=()
trap '[ ${#servers[@]} = 0 ] || kill ${servers[@]}; wait' EXIT
box-update-server() {
	case "$*" in
	serve*|mirror*) ;;
	*) command box-update-server "$@"; return ;;
	esac
	address=$(printf '%s\n' "$@" | sed -n '/^--listen$/{n;p;}')
	if [ -n "${servers[$address]:-}" ]; then
		kill ${servers[$address]}
		wait ${servers[$address]} || true
	fi
	command box-update-server "$@" --log-requests=false &
	servers[$address]=$!
	for i in {1..300}; do
		curl -fsS "http://$address/readyz" >/dev/null 2>&1 && return
		kill -0 ${servers[$address]}
		sleep 0.1
	done
	return 1
}
update() {
	mkdir -p meter
	printf '#!/bin/sh\n' >meter/install_update.sh
	command boxsign build meter -o $1
}
`

// runPage runs the commands of a script, and returns their output.
func runPage(t *testing.T, dir, script string) string {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		testworld.NotTested(t, "the commands of a page", err)
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-eu", "-x", "-c", useFreePorts(t, signerPrelude+script))
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "BOXSIGN_PASSPHRASE=mosaic-Tulip-93-harbor", "BOXSIGN_BACKUP_PASSPHRASE=lantern-Quartz-58-meadow")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// wantAll fails the test unless text has each of these.
func wantAll(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("no %q in\n%s", p, text)
		}
	}
}

func TestSignerPage(t *testing.T) {
	t.Parallel()
	out := runPage(t, t.TempDir(), "update opq-box-update-1.tar.gz\n"+commands(t, "SIGNER.md"))
	wantAll(t, out, "root fingerprint: ", "targets: 1 -> 2", "archives verified: 2", "withdrawn: opq-box-update-1550190683.tar.bz2",
		"paused at 5%", `"roles":`, "root: 1 -> 2", "state: dry run", "backup: root-key.txt")
}

// before is the site that the runbooks look after.
const before = `
O=http://127.0.0.1:8151 M=http://127.0.0.1:8152
U=opq-box-update-1550190683.tar.bz2 U2=opq-box-update-1550190684.tar.bz2
update $U; update $U2
boxsign init --keys K --repo R
cp R/metadata/1.root.json .
box-update-server serve --data-dir R --online-key K/online.pem --listen 127.0.0.1:8151
boxsign publish --keys K $U $O
box-update-server mirror $O --root 1.root.json --data-dir M --listen 127.0.0.1:8152
mkdir updates; cp $U $U2 updates
lose() { rm $(find R/sha256 -name "$(sha256sum $1 | cut -c1-64)"); }
`

func TestRunbooks(t *testing.T) {
	t.Parallel()
	script := commands(t, "RUNBOOKS.md") + commands(t, "REPLACE.md") + commands(t, "THREATS.md")
	// What the runbooks are about happens here.
	for _, h := range []struct{ at, happens string }{
		{"boxsign publish --keys K $U $O\n", "lose $U\n"},
		{"boxsign restore --keys K2 keys.backup\n", "boxsign backup --keys K -o keys.backup\nboxsign backup --keys K --print -o root-key.txt\nmv K gone\n"},
	} {
		if strings.Count(script, h.at) != 1 {
			t.Fatalf("%q is not there once", h.at)
		}
		script = strings.Replace(script, h.at, h.happens+h.at, 1)
	}
	dir := t.TempDir()
	script, answers := keepAnswers(t, script)
	out := runPage(t, dir, before+script)
	checkAnswers(t, dir, answers)
	wantAll(t, out, "the repository has lost its archive", "state: restored", "checked 1 updates: 0 problems", "checked", "root: 1 -> 2",
		"the origin does not sign with the new online key", "exported 2 archives", "imported 2 archives", "imported 0 archives", "withdrawn: ", "1550190684")
}

// promise is what a page says that a command prints, with … for what differs.
type promise struct{ command, answer string }

// keepAnswers returns the promises of a script, in its order: the lines "#> ANSWER" below a command. The script that it
// returns keeps what these commands print. Each curl has a promise.
func keepAnswers(t *testing.T, script string) (string, []promise) {
	t.Helper()
	var promises []promise
	for _, m := range regexp.MustCompile(`(?m)^(.+)\n((?:#> .*\n)+)`).FindAllStringSubmatch(script, -1) {
		answer := strings.ReplaceAll("\n"+m[2], "\n#> ", "\n")
		script = strings.Replace(script, m[0], fmt.Sprintf("%s | tee answer.%d\n", m[1], len(promises)), 1)
		promises = append(promises, promise{m[1], strings.TrimSpace(answer)})
	}
	for line := range strings.Lines(script) {
		if strings.HasPrefix(line, "curl ") && !strings.Contains(line, "| tee answer.") {
			t.Errorf("the page does not say what is answered to %s", line)
		}
	}
	return "set -o pipefail\n" + script, promises
}

// checkAnswers compares what commands printed with what the page promises.
func checkAnswers(t *testing.T, dir string, promises []promise) {
	t.Helper()
	if len(promises) < 8 {
		t.Errorf("only %d promises", len(promises))
	}
	for i, p := range promises {
		b, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("answer.%d", i)))
		if err != nil {
			t.Error(err)
			continue
		}
		want := strings.ReplaceAll(regexp.QuoteMeta(p.answer), "…", ".+")
		if got := strings.TrimSpace(string(b)); !regexp.MustCompile("^" + want + "$").MatchString(got) {
			t.Errorf("%s\ngot  %s\nwant %s", p.command, got, p.answer)
		}
	}
}

// TestThreats looks for each test that the threat model names.
func TestThreats(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "THREATS.md"))
	if err != nil {
		t.Fatal(err)
	}
	have := testsByFolder(t)
	n := 0
	for _, m := range regexp.MustCompile("`([a-z/-]+): ((?:Test|Fuzz)[A-Za-z]+(?:, (?:Test|Fuzz)[A-Za-z]+)*)`").FindAllStringSubmatch(string(text), -1) {
		for _, name := range strings.Split(m[2], ", ") {
			if n++; !have[m[1]+": "+name] {
				t.Errorf("%s: has no %s", m[1], name)
			}
		}
	}
	if all := len(regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]`).FindAllString(string(text), -1)); n < 40 || n != all {
		t.Errorf("%d tests are named, %d as expected", all, n)
	}
}

func testsByFolder(t *testing.T) map[string]bool {
	t.Helper()
	root := filepath.Join("..", "..")
	have := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		folder, err := filepath.Rel(root, filepath.Dir(path))
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				have[fmt.Sprintf("%s: %s", filepath.ToSlash(folder), f.Name.Name)] = true
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return have
}
