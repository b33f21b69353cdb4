package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// prose are words that follow the name of a program in a text that is no command line.
var prose = []string{
	"again", "asks", "digest", "verifies", "installs", "running", "chooses", "downloads", "for", "instead", "is", "keeps", "lists", "made", "makes", "moves", "names", "never", "reads",
	"need", "says", "shows", "signs", "stops", "tries", "without", "writes", "at", "in", "to", "needs", "and", "that", "which", "of", "has", "on", "or",
}

// A namedCommand is a command that a text of the source names.
type namedCommand struct {
	at    string // file and line
	text  string // the text
	prog  string
	words []string // what follows the program, up to the end of the clause
}

// literalText returns the text of an expression of string literals and other strings, which become "\x00". It returns false
// for any other expression.
func literalText(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		s, err := strconv.Unquote(e.Value)
		return s, err == nil && e.Kind == token.STRING
	case *ast.ParenExpr:
		return literalText(e.X)
	case *ast.BinaryExpr:
		if e.Op != token.ADD {
			return "", false
		}
		x, isX := literalText(e.X)
		y, isY := literalText(e.Y)
		if !isX {
			x = "\x00"
		}
		if !isY {
			y = "\x00"
		}
		return x + y, isX || isY
	}
	return "", false
}

var (
	namesProgram = regexp.MustCompile(`(?:^|[^\w/.-])(boxsign|box-update-server|boxup) ([^\n]*)`)
	clauseEnd    = regexp.MustCompile(`[,;:|)]( |$)|[\n\x00]`)
)

// namedCommands returns what the texts of the source name: in literals of all packages but tests.
func namedCommands(t *testing.T) (found []namedCommand) {
	t.Helper()
	top := filepath.Join("..", "..")
	files := token.NewFileSet()
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if rel, _ := filepath.Rel(top, path); d.IsDir() && (rel == "bench" || strings.HasPrefix(d.Name(), ".") && rel != ".") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			e, isExpr := n.(ast.Expr)
			if !isExpr {
				return true
			}
			text, ok := literalText(e)
			if !ok {
				return true
			}
			for rest := text; ; {
				m := namesProgram.FindStringSubmatchIndex(rest)
				if m == nil {
					return false
				}
				clause := rest[m[4]:]
				if end := clauseEnd.FindStringIndex(clause); end != nil {
					clause = clause[:end[0]]
				}
				found = append(found, namedCommand{files.Position(e.Pos()).String(), text, rest[m[2]:m[3]], strings.Fields(clause)})
				rest = rest[m[4]:]
			}
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// helps caches the help of commands of the real programs.
type helps struct {
	mu   sync.Mutex
	text map[string]string
}

// of returns the help of a command, and whether there is that command.
func (h *helps) of(t *testing.T, prog string, path ...string) (string, bool) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	line := strings.Join(append([]string{prog}, path...), " ")
	text, ok := h.text[line]
	if !ok {
		out, _ := exec.CommandContext(t.Context(), prog, append(path, "--help")...).CombinedOutput() // of a word that is no command, it may fail
		text = string(out)
		h.text[line] = text
	}
	return text, regexp.MustCompile(`(?m)^ *(Usage: *)?` + regexp.QuoteMeta(line) + `( |$)`).MatchString(usage1(text))
}

// usage1 returns the part of a help text that shows the command line.
func usage1(help string) string {
	_, usage, _ := strings.Cut(help, "Usage:")
	usage, _, _ = strings.Cut(usage, "\n\n")
	return usage
}

var (
	word = regexp.MustCompile(`^[a-z][a-z-]*$`)
	flag = regexp.MustCompile(`(?:^|[\s([])(--[a-z][a-z-]+)`)
)

// Every command and flag that a text of a program names exists in the real program.
func TestNamedCommandsExist(t *testing.T) {
	h := &helps{text: map[string]string{}}
	commands := 0
	for _, c := range namedCommands(t) {
		var path []string
		help, _ := h.of(t, c.prog)
		for _, w := range c.words {
			w = strings.TrimRight(w, ".?`\"'")
			if !word.MatchString(w) {
				break
			}
			next, is := h.of(t, c.prog, append(slices.Clone(path), w)...)
			if !is {
				break
			}
			path, help = append(path, w), next
		}
		if len(path) == 0 {
			if first := strings.TrimRight(strings.Join(c.words[:min(1, len(c.words))], ""), ".?`\"'"); word.MatchString(first) && !slices.Contains(prose, first) {
				t.Errorf("%s: %s has no command %s: %q", c.at, c.prog, first, c.text)
			}
			continue
		}
		commands++
		for _, f := range flag.FindAllStringSubmatch(strings.Join(c.words, " "), -1) {
			if f[1] != "--help" && !regexp.MustCompile(regexp.QuoteMeta(f[1])+`\b`).MatchString(help) {
				t.Errorf("%s: %s %s has no flag %s: %q", c.at, c.prog, strings.Join(path, " "), f[1], c.text)
			}
		}
	}
	if commands < 80 {
		t.Errorf("the source names %d commands, want more: is it searched?", commands)
	}
}

// A hintStory provokes a message of a program and does what its hint says. Its commands are those of a shell, in a directory with
// keys K, a repository R with opq-box-update-1.tar.gz, a further archive opq-box-update-2.tar.gz, and $BOXSIGN_KEYS and $BOXSIGN_REPO that name K
// and R.
type hintStory struct {
	name  string
	setup string // what happens before
	run   string // the command that fails
	hint  string // the part of the message that is the command to run, with nothing filled in
	fill  string // the command with its placeholders and arguments filled in; "" if nothing is missing
	then  string // what works then; "" for run
}

// origin1 serves R.
const origin1 = "box-update-server serve --data-dir R --online-key K/online.pem --listen 127.0.0.1:8151\n"

// boxCommand runs boxup with files of its own.
const boxCommand = `
boxup() { command boxup "$@" --config $PWD/box.json --state $PWD/box; }
`

var hintStories = []hintStory{
	{name: "no repository", setup: "export BOXSIGN_KEYS=$PWD/K4 BOXSIGN_REPO=R4", run: "boxsign status", hint: "boxsign init"},
	{name: "not listed, withdraw", run: "boxsign withdraw opq-box-update-9.tar.gz", hint: "boxsign ls", then: "boxsign withdraw opq-box-update-1.tar.gz"},
	{name: "not listed, rollout", run: "boxsign rollout show opq-box-update-9.tar.gz", hint: "boxsign ls", then: "boxsign rollout show opq-box-update-1.tar.gz"},
	{name: "nothing waits", run: "boxsign abort", hint: "boxsign withdraw", fill: "boxsign withdraw opq-box-update-1.tar.gz", then: "true"},
	{name: "no such ID", run: "boxsign cosign --id 00", hint: "boxsign status", then: "true"},
	{name: "every box takes it", run: "boxsign rollout pause opq-box-update-1.tar.gz", hint: "boxsign withdraw", fill: "boxsign withdraw opq-box-update-1.tar.gz", then: "true"},
	{name: "other conditions", setup: "boxsign add --rollout 5% opq-box-update-2.tar.gz", run: "boxsign add --rollout 6% opq-box-update-2.tar.gz",
		hint: "boxsign rollout finish", fill: "boxsign rollout finish opq-box-update-2.tar.gz", then: "boxsign add opq-box-update-2.tar.gz"},
	{name: "not a proper update", setup: "echo x >opq-box-update-3.tar.gz", run: "boxsign add opq-box-update-3.tar.gz", hint: "boxsign build",
		fill: "rm opq-box-update-3.tar.gz; boxsign build meter -o opq-box-update-3.tar.gz"},
	{name: "key exists", run: "boxsign keygen release", hint: "boxsign rotate release", then: "true"},
	{name: "no key", setup: "export BOXSIGN_KEYS=$PWD/K3", run: "boxsign key show", hint: "boxsign keygen release"},
	{name: "no such key", setup: "rm K/root.*", run: "boxsign key export root", hint: "boxsign key show", then: "boxsign key export release"},
	{name: "nothing to back up", setup: "mkdir K3; cp K/release.pub K3; export BOXSIGN_KEYS=$PWD/K3", run: "boxsign backup -o b", hint: "boxsign key show", then: "true"},
	{name: "damaged key", setup: "TEST_SEAL=12 boxsign-at backup -o keys.backup; echo x >K/release.pem", run: "boxsign add opq-box-update-2.tar.gz", hint: "boxsign restore",
		fill: "mv K/release.pem damaged; boxsign restore keys.backup"},
	{name: "lost archive", setup: "rm $(find R/sha256 R/targets -type f)", run: "boxsign add opq-box-update-2.tar.gz", hint: "boxsign publish FILE", fill: "boxsign publish opq-box-update-1.tar.gz"},
	{name: "lost archive for good", setup: "rm $(find R/sha256 R/targets -type f)", run: "boxsign add opq-box-update-2.tar.gz", hint: "boxsign withdraw", fill: "boxsign withdraw opq-box-update-1.tar.gz"},
	{name: "damaged archive", setup: "echo x >opq-box-update-3.tar.gz", run: "boxsign diff opq-box-update-2.tar.gz opq-box-update-3.tar.gz", hint: "boxsign inspect", fill: "! boxsign inspect opq-box-update-3.tar.gz", then: "true"},
	{name: "root expired", setup: "boxsign() { TEST_NOW=2040-01-01T00:00:00Z command boxsign-at \"$@\" --yes; }", run: "boxsign add opq-box-update-2.tar.gz", hint: "boxsign root renew"},
	{name: "init at a URL", run: "boxsign init --repo http://127.0.0.1:8151", hint: "box-update-server serve --data-dir DIR --online-key FILE",
		fill: "boxsign init --repo R4 --keys K4; box-update-server serve --data-dir R4 --online-key K4/online.pem --listen 127.0.0.1:8151", then: "boxsign status --repo http://127.0.0.1:8151 --keys K4"},
	{name: "hold at an origin", setup: "boxsign keygen --keys K3 release; boxsign root add-key release K3/release.pub;" + origin1, run: "boxsign add --hold opq-box-update-2.tar.gz --repo http://127.0.0.1:8151",
		hint: "boxsign renew --list --release-key FILE --release-key FILE",
		fill: "boxsign renew --list --release-key K/release.pem --release-key K3/release.pem --repo http://127.0.0.1:8151", then: "true"},

	{name: "wrong passphrase", setup: "TEST_SEAL=12 boxsign-at backup -o keys.backup", run: "env BOXSIGN_PASSPHRASE=wrong boxsign add --yes opq-box-update-2.tar.gz", hint: "boxsign restore",
		fill: "mv K/release.pem away; boxsign restore keys.backup", then: "boxsign add opq-box-update-2.tar.gz"},
	{name: "foreign key", setup: "boxsign keygen --keys K3 release", run: "boxsign add --release-key K3/release.pem opq-box-update-2.tar.gz", hint: "boxsign root add-key",
		fill: "boxsign root add-key release K3/release.pub"},
	{name: "bytes follow", setup: "head -c 4096 /dev/zero | tr '\\0' x >>opq-box-update-2.tar.gz", run: "boxsign add opq-box-update-2.tar.gz", hint: "boxsign build",
		fill: "rm opq-box-update-2.tar.gz; boxsign build meter -o opq-box-update-2.tar.gz"},
	{name: "another VERSION", setup: "echo 9 >meter/VERSION", run: "boxsign build meter -o opq-box-update-3.tar.gz", hint: "boxsign build", fill: "rm meter/VERSION; boxsign build meter -o opq-box-update-4.tar.gz"},
	{name: "many files differ", setup: "for i in $(seq 30); do echo $i >meter/f$i; done; boxsign build meter -o opq-box-update-3.tar.gz", run: "! boxsign add --dry-run opq-box-update-3.tar.gz",
		hint: "boxsign diff opq-box-update-1.tar.gz opq-box-update-3.tar.gz", then: "boxsign add opq-box-update-3.tar.gz"},
	{name: "not compared", setup: "mkdir old; mv opq-box-update-1.tar.gz old; rm $(find R/sha256 R/targets -type f)", run: "! boxsign add --dry-run opq-box-update-2.tar.gz",
		hint: "boxsign diff OLD NEW", fill: "boxsign diff old/opq-box-update-1.tar.gz opq-box-update-2.tar.gz", then: "true"},
	{name: "a root waits, sign", setup: rootWaits, run: "boxsign root renew", hint: "boxsign root sign", fill: "boxsign root sign --root-key K3/root.pem"},
	{name: "a root waits, drop", setup: rootWaits, run: "boxsign root renew", hint: "boxsign abort"},
	{name: "no such ID among those that wait", setup: "boxsign add --hold opq-box-update-2.tar.gz", run: "boxsign cosign --id 00", hint: "boxsign status", then: "true"},
	{name: "damaged public key", setup: "TEST_SEAL=12 boxsign-at backup -o keys.backup; echo x >K/release.pub", run: "boxsign key show", hint: "boxsign restore", fill: "mv K/release.pub away; boxsign restore keys.backup"},
	{name: "public key of another", setup: "TEST_SEAL=12 boxsign-at backup -o keys.backup; cp K/root.pub K/release.pub", run: "boxsign add opq-box-update-2.tar.gz", hint: "boxsign restore",
		fill: "mkdir away; mv K/release.* away; boxsign restore keys.backup"},
	{name: "root key exists", run: "boxsign keygen root", hint: "boxsign root add-key", fill: "boxsign keygen --keys K3 root; boxsign root add-key root K3/root.pub", then: "true"},
	{name: "no backup", setup: "echo x >b", run: "boxsign restore b", hint: "boxsign backup", fill: "boxsign backup -o keys.backup", then: "boxsign restore keys.backup"},
	{name: "paper", setup: "TEST_SEAL=12 boxsign-at backup --print -o paper", run: "! cat paper", hint: "boxsign restore FILE --keys DIR", fill: "boxsign restore paper --keys K5", then: "true"},
	{name: "damaged metadata", setup: "echo x >>R/metadata/2.snapshot.json", run: "boxsign verify-repo --root R/metadata/1.root.json R", hint: "boxsign renew"},
	{name: "too few keys", run: "boxsign init --keys K4 --repo R4 --release-threshold 2", hint: "boxsign root add-key",
		fill: "boxsign init --keys K4 --repo R4; boxsign keygen --keys K3 release; boxsign root add-key release K3/release.pub --keys K4 --repo R4", then: "boxsign root threshold release 2 --keys K4 --repo R4"},
	{name: "stranded", setup: "boxsign keygen --keys K3 release; boxsign root add-key release K3/release.pub", run: "boxsign root remove-key release K/release.pub", hint: "boxsign rotate release",
		then: "true"},

	{name: "server without a repository", setup: "mkdir R4", run: "box-update-server config check --data-dir R4 --listen 127.0.0.1:8151", hint: "boxsign init --repo R4", fill: "boxsign init --repo R4 --keys K4"},
	{name: "status without a repository", setup: "mkdir R4", run: "box-update-server status --data-dir R4", hint: "boxsign init", fill: "boxsign init --repo R4 --keys K4", then: "box-update-server status --data-dir R4"},
	{name: "doctor of wrong settings", setup: `echo '{"port": "x"}' >c.json`, run: "box-update-server doctor --config c.json", hint: "box-update-server config check",
		fill: "! box-update-server config check --config c.json", then: "true"},

	{name: "box without configuration", setup: origin1 + boxCommand, run: "boxup check", hint: "boxup init --root FILE URL…",
		fill: "boxup init --root R/metadata/1.root.json --root-fingerprint $(sha256sum R/metadata/1.root.json | cut -c1-64) http://127.0.0.1:8151", then: "boxup check || test $? = 10"},
	{name: "box that knows nothing", setup: origin1 + boxCommand + boxInit, run: "boxup install", hint: "boxup check", fill: "boxup check || test $? = 10", then: "true"},
	{name: "not in the known list", setup: origin1 + boxCommand + boxInit + "boxup check || test $? = 10; boxsign add opq-box-update-2.tar.gz --repo http://127.0.0.1:8151", run: "boxup install opq-box-update-2.tar.gz", hint: "boxup check", fill: "boxup check || test $? = 10", then: "boxup fetch opq-box-update-2.tar.gz"},
	{name: "another root", setup: origin1 + boxCommand + boxInit + "boxup check || test $? = 10; boxsign init --keys K4 --repo R4; cp R4/metadata/1.root.json root.json", run: "boxup check", hint: "boxup init --replace-root", fill: initOf("R", " --replace-root"), then: "boxup check || test $? = 10"},
	{name: "empty configuration", setup: origin1 + boxCommand + "echo '{}' >box.json", run: "boxup check", hint: "boxup init", fill: "rm box.json; " + boxInit, then: "boxup check || test $? = 10"},
	{name: "not downloaded", setup: origin1 + boxCommand + boxInit + "boxup check || test $? = 10; rm opq-box-update-1.tar.gz", run: "boxup install opq-box-update-1.tar.gz", hint: "boxup fetch opq-box-update-1.tar.gz", then: "true"},
}

// rootWaits makes a root of two keys, and lets the next one wait for the second key.
const rootWaits = `boxsign keygen --keys K3 root; boxsign root add-key root K3/root.pub
boxsign root threshold root 2 --root-key K/root.pem --root-key K3/root.pem; boxsign root renew
`

var boxInit = initOf("R", "") + "\n"

// initOf returns the boxup init of a box that trusts a repository.
func initOf(repo, flags string) string {
	root := repo + "/metadata/1.root.json"
	return "boxup init --root " + root + " --root-fingerprint $(sha256sum " + root + " | cut -c1-64)" + flags + " http://127.0.0.1:8151"
}

const hintBegin = "export BOXSIGN_KEYS=$PWD/K BOXSIGN_REPO=R\n"

// Each hint that can be provoked names a command that works, and then the command that failed works.
func TestHintsWork(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	runPage(t, base, hintBegin+`mkdir meter; printf '#!/bin/sh\n' >meter/install_update.sh
command boxsign build meter -o opq-box-update-1.tar.gz; command boxsign build meter -o opq-box-update-2.tar.gz
boxsign init; boxsign add opq-box-update-1.tar.gz`)
	said := make([]string, len(hintStories))
	t.Run("stories", func(t *testing.T) {
		for i, s := range hintStories {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				said[i] = s.play(t, base)
			})
		}
	})
	if !slices.Contains(said, "") { // all were played
		checkHintsCovered(t, said)
	}
}

// play runs a story in a copy of base, and returns what was printed.
func (s hintStory) play(t *testing.T, base string) string {
	dir := t.TempDir()
	if out, err := exec.Command("cp", "-a", base+"/.", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	fill, then := cmp.Or(s.fill, s.hint), cmp.Or(s.then, s.run)
	if prog, _, _ := strings.Cut(s.hint, " "); !strings.Contains(fill, prog) {
		t.Fatalf("%q is not what the hint names", fill)
	}
	script := fmt.Sprintf("%s\nif %s >said 2>&1; then echo it works; exit 1; fi; cat said >&2; grep -qF -- '%s' said || { echo another hint >&2; exit 1; }\n%s\n%s\n",
		s.setup, s.run, s.hint, fill, then)
	return runPage(t, dir, hintBegin+script)
}

// checkHintsCovered fails the test unless each message that names a command was printed by a story or is in notProvoked.
func checkHintsCovered(t *testing.T, said []string) {
	t.Helper()
	h := &helps{text: map[string]string{}}
	used := map[string]bool{}
	for _, c := range namedCommands(t) {
		if strings.Contains(c.at, "../cmd/") || len(c.words) == 0 {
			continue // help texts, which a test of their own checks
		}
		if _, is := h.of(t, c.prog, strings.Trim(c.words[0], ".?,;:`")); !is {
			continue
		}
		if slices.ContainsFunc(said, func(s string) bool { return strings.Contains(s, fixedPart(c)) }) {
			continue
		}
		reason := ""
		for part := range notProvoked {
			if strings.Contains(c.text, part) {
				used[part], reason = true, part
			}
		}
		if reason == "" {
			t.Errorf("%s: no story provokes %q", c.at, c.text)
		}
	}
	for part := range notProvoked {
		if !used[part] {
			t.Errorf("notProvoked: no text has %q, or a story provokes it", part)
		}
	}
}

// fixedPart returns the part of a text that is printed as it stands and names the command.
func fixedPart(c namedCommand) string {
	for _, part := range regexp.MustCompile(`[\n\x00]|%(\[\d+\])?[-+#.\d]*[a-zA-Z]`).Split(c.text, -1) {
		if strings.Contains(part, c.prog+" "+c.words[0]) {
			return part
		}
	}
	return c.text
}

// notProvoked has parts of messages that no story provokes, and why.
var notProvoked = map[string]string{
	"is it misspelt? box-update-server serve":   "it is a warning, beside which doctor does not fail; doctor_test.go of cmd/box-update-server has it",
	"download %s, then see boxsign diff":        "it needs an origin and an update of which more than twenty files changed, and a download in between",
	"boxsign backup 1\n":                        "it is the first line of a file",
	"it is release.pub, which":                  "it says who made a file",
	"online.pem that boxsign init made":         "it says who made a file",
	"another boxup is running":                  "it needs a boxup that does not end; update_test.go of cmd/boxup has one",
	"ask the mirrors with boxup check":          "it needs a state that lost some of its files; torn_test.go of cmd/boxup has such states",
	"make room: box-update-server gc":           "it needs a full disk",
	"is the mirror running? it syncs":           "it needs a mirror that lags by more than its interval",
	"wait for the next sync, or run":            "it needs a mirror that lags",
	"damaged here or at the upstreams":          "it needs a mirror whose upstreams are damaged too",
	"use the key that the repository names":     "its command is run by the runbooks, which TestRunbooks plays",
	"give both keys to the origin":              "its command is run by the runbooks, which TestRunbooks plays",
	"compare them with boxsign status":          "it needs a thief of one key",
	"it has all signatures; to send":            "it needs two signers at an origin; threshold_served.txt has them",
	"boxsign key show lists them":               "it needs a file of a key and a key of the agent for one role",
	"make the root that you want":               "it needs an origin of several root signers; threshold_served.txt has one",
	"boxsign abort replaces a list that nobody": "it waits five minutes for another signer",
	"check what is published with boxsign":      "it needs another signer in between",
	"then boxsign renew":                        "it needs a directory that lost its timestamp; damage_test.go has one",
	"they run boxsign cosign":                   "it needs two computers; cosign.txt has both signers",
	"they run \x00; then run boxsign rotate":    "it needs two computers; threshold_served.txt has both signers",
	"publish something with boxsign":            "it needs a server that believes that a year has passed",
	"sign a new root: boxsign root renew":       "it needs a server that believes that a year has passed",
	"origin: %w: make one with":                 "the settings are refused before, with a hint that a story provokes",
	"set the clock of the origin":               "it needs an origin with a wrong clock; clock_ahead.txt has one",
	"if this clock is wrong, set it":            "it needs a wrong clock; clock_ahead.txt has one",
	"wait for a newer one, or try it again":     "it needs an update that failed so often that it was set aside; update_test.go of cmd/boxup has one",
	"compress it with boxsign build":            "it needs an archive with a large window; unpack_test.go of update/archive has one",
}
