package main

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// pageCommands returns the commands of a page, in their order: blocks of sh, and those lines of indented blocks that begin
// with a dollar sign or, where none of the page does, with a program.
func pageCommands(t *testing.T, page string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", page))
	if err != nil {
		t.Fatal(err)
	}
	prompted := strings.Contains(string(text), "\n    $ ")
	starts := regexp.MustCompile(`^(boxsign|boxup|box-update-server|curl|openssl|sha256sum|split|for|i=|[A-Z]+=)\b?`)
	var script strings.Builder
	fenced, goesOn := false, false
	for line := range strings.Lines(string(text)) {
		command, indented := strings.CutPrefix(line, "    ")
		switch {
		case strings.HasPrefix(line, "```"):
			fenced = !fenced && line == "```sh\n"
		case fenced:
			script.WriteString(line)
		case !indented:
			goesOn = false
		case prompted:
			if command, ok := strings.CutPrefix(command, "$ "); ok {
				script.WriteString(command)
			}
		case goesOn || starts.MatchString(command):
			script.WriteString(command)
			goesOn = strings.HasSuffix(command, "\\\n") || strings.HasPrefix(command, "for") || goesOn && !strings.HasPrefix(command, "done")
		}
	}
	return script.String()
}

// useLocalNames replaces the names of other machines on a page by those of this machine.
func useLocalNames(script string) string {
	return strings.NewReplacer(
		"http://updates.example", "http://127.0.0.1:8151", "http://mirror.example", "http://127.0.0.1:8152",
		"http://old-server", "http://127.0.0.1:8159", "ssh island ", "",
		"/srv/updates", "updates", "/etc/box-update-server.json", "etc.json",
	).Replace(script)
}

// publicPrelude is what the pages for everybody assume beside signerPrelude: a box keeps its files here and does
// not reboot; a settings variable names a port of one interface; a mirror that cron runs doesn't run beside one
// that stays.
const publicPrelude = `
eval "$(declare -f box-update-server | sed '1s/.*/run-server()/')"
box-update-server() {
	case "$*" in
	'') run-server serve --listen 127.0.0.1:8151 ;;
	*--once*)
		kill ${servers[127.0.0.1:8152]}
		wait ${servers[127.0.0.1:8152]} || true
		unset "servers[127.0.0.1:8152]"
		command box-update-server "$@"
		run-server mirror http://127.0.0.1:8151 --data-dir M --listen 127.0.0.1:8152 ;;
	*) run-server "$@" ;;
	esac
}
box=$PWD/box
boxup() {
	case "$1" in
	check) # there is an update
		command boxup "$@" --config $box/config.json --state $box/state || [ $? = 10 ]
		return ;;
	init) set -- "$@" --root-fingerprint $(sha256sum 1.root.json | cut -c1-64) ;;
	esac
	command boxup "$@" --config $box/config.json --state $box/state
	if [ "$1" = init ]; then sed -i '1s/{/{"reboot": "never",/' $box/config.json; fi
}
U=opq-box-update-1550190690.tar.bz2
origin() { box-update-server serve --data-dir R --online-key K/online.pem --listen 127.0.0.1:8151; }
`

// insertBefore inserts commands before each key of before, a command that the script has once.
func insertBefore(t *testing.T, script string, before map[string]string) string {
	t.Helper()
	for command, happens := range before {
		if strings.Count(script, command) != 1 {
			t.Fatalf("%q is not there once in\n%s", command, script)
		}
		script = strings.Replace(script, command, happens+"\n"+command, 1)
	}
	return script
}

// buildBoxup builds boxup for ARMv6.
func buildBoxup(t *testing.T, path string) {
	t.Helper()
	cmd := exec.Command("go", "build", "-o", path, "../boxup")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH=arm", "GOARM=6")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
}

func TestBoxPage(t *testing.T) {
	t.Parallel()
	script := insertBefore(t, useLocalNames(pageCommands(t, "docs/BOX.md")), map[string]string{
		"boxup init": "update $U; boxsign init --keys K --repo R; cp R/metadata/1.root.json .; cp K/release.pub .; origin\n" +
			"boxsign publish --keys K $U http://127.0.0.1:8151\n" +
			"box-update-server mirror http://127.0.0.1:8151 --root 1.root.json --data-dir M --listen 127.0.0.1:8152",
		"curl -O":           "box=$PWD/another", // which has no root
		"boxsign bootstrap": `boxsign() { if [ $1 = bootstrap ]; then command boxsign "$@" --boxup boxup-linux-armv6; else command boxsign "$@" --yes; fi; }`,
	})
	dir := t.TempDir()
	buildBoxup(t, filepath.Join(dir, "boxup-linux-armv6"))
	out := runPage(t, dir, publicPrelude+script)
	wantAll(t, out, "installed", "Signature Verified Successfully", "state: published")
}

// A list that is published by hand is one that boxsign signed elsewhere.
func TestPublishPage(t *testing.T) {
	t.Parallel()
	page := pageCommands(t, "docs/PUBLISH.md")
	_, byHand, ok := strings.Cut(page, "O=http://127.0.0.1:8151")
	if !ok {
		t.Fatalf("no commands in %s", page)
	}
	script := "update opq-box-update-1550190683.tar.bz2; boxsign init --keys K --repo R; cp -r R R2; cp K/release.pub .; origin\n" +
		"boxsign publish --keys K opq-box-update-1550190683.tar.bz2 R2; cp R2/metadata/2.targets.json .\n" +
		strings.NewReplacer("18.targets.json", "2.targets.json", "targets/18", "targets/2").Replace("O=http://127.0.0.1:8151"+byHand)
	out := runPage(t, t.TempDir(), publicPrelude+script)
	wantAll(t, out, `"targets":2`, "Signature Verified Successfully")
}

// Each page that shows commands is run by a test, or is named here with what becomes of it.
func TestPagesWithCommands(t *testing.T) {
	t.Parallel()
	run := map[string]string{
		"README.md":                      "TestTours of docs/tour, and TestRelease of packaging for what installs",
		"docs/BOX.md":                    "TestBoxPage",
		"docs/MIRROR.md":                 "TestManual of cmd/box-update-server",
		"docs/PUBLISH.md":                "TestPublishPage",
		"docs/REPLACE.md":                "TestRunbooks",
		"docs/RUNBOOKS.md":               "TestRunbooks",
		"docs/SERVING.md":                "TestServingPage and TestDocumentedNginx of cmd/box-update-server",
		"docs/SIGNER.md":                 "TestSignerPage",
		"docs/THREATS.md":                "TestRunbooks",
		"docs/TRUST.md":                  "TestManualProcedures, and TestManualExamples for the files that it shows",
		"packaging/README.md":            "TestRelease of packaging, which TestPackagingPage compares it with",
		"packaging/prometheus/README.md": "TestAlerts of router",
		"docs/BENCHMARKS.md":             "none: they take half an hour, and make bench is what runs them",
	}
	root := filepath.Join("..", "..")
	pages := 0
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Ext(path) != ".md" || strings.Contains(path, "node_modules") {
			return err
		}
		page, err := filepath.Rel(root, path)
		if err == nil && run[page] == "" && pageCommands(t, page) != "" {
			t.Errorf("nothing runs the commands of %s", page)
		}
		text, err := os.ReadFile(path)
		for _, kind := range regexp.MustCompile("(?m)^ *```([^\n`]+)$").FindAllStringSubmatch(string(text), -1) {
			if !slices.Contains([]string{"sh", "json", "nginx"}, kind[1]) {
				t.Errorf("%s has a block of %s, which no test knows", page, kind[1])
			}
		}
		pages++
		return err
	})
	if err != nil || pages < len(run) {
		t.Errorf("%d pages, %v", pages, err)
	}
}
