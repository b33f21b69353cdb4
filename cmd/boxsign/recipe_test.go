package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/testworld"
)

// makeUpdates makes the key, the directory genuine with the update U, signed, and the directory hostile:
// what a mirror sends that has another archive under the name U, and beside it the line and the signature
// of V, which is genuine, which came before and which still lies there.
const makeUpdates = `
mkdir DIR EVIL genuine hostile
echo '#!/bin/sh' >DIR/install_update.sh
echo '#!/bin/sh
echo evil' >EVIL/install_update.sh
boxsign keygen --keys K release
boxsign build DIR -o genuine/$U
boxsign build DIR -o hostile/$V
boxsign build EVIL -o hostile/$U
boxsign sign --keys K genuine/$U
boxsign sign --keys K hostile/$V
cp hostile/$V.sig hostile/$U.sig
cp hostile/$V.sha256 hostile/$U.sha256
cp -a K restored
`

// A box that verifies a line which it downloaded takes anything; every command that people are told
// refuses it.
func TestRecipesAgainstAHostileMirror(t *testing.T) {
	for _, program := range []string{"openssl", "sha256sum", "curl"} {
		if _, err := exec.LookPath(program); err != nil {
			testworld.NotTested(t, "the commands for boxes", err)
		}
	}
	dir := t.TempDir()
	env := []string{
		"U=opq-box-update-1550190683.tar.bz2", "V=opq-box-update-1550190682.tar.bz2", "A=opq-box-update-1550190683.tar.bz2",
		"BOXSIGN_KEYS=K", "BOXSIGN_PASSPHRASE=mosaic-Tulip-93-harbor",
	}
	runManual(t, dir, makeUpdates, env...)
	genuine, hostile := mirrorOf(t, dir, "genuine"), mirrorOf(t, dir, "hostile")

	naive := `openssl pkeyutl -verify -pubin -inkey release.pub -rawin -in "$U.sha256" -sigfile "$U.sig" && sha256sum -c "$U.sha256"`
	if out, err := hostile.run(t, naive, env); err != nil {
		t.Fatalf("the attack does not work on the recipe that it is for: %v\n%s", err, out)
	}
	for page, least := range map[string]int{"README.md": 3, "TRUST.md": 3, "PUBLISH.md": 1, "BOX.md": 5, "signing/doc.go": 1, "boxsign": 1} {
		found := recipes(readPage(t, page))
		if len(found) < least {
			t.Errorf("%s: found %d commands that check an update, expected at least %d: %q", page, len(found), least, found)
		}
		for _, script := range found {
			t.Run(page, func(t *testing.T) {
				if out, err := genuine.run(t, script, env); err != nil {
					t.Errorf("a genuine update is refused: %v\n%s\n%s", err, script, out)
				}
				if out, err := hostile.run(t, script, env); err == nil {
					t.Errorf("accepts another archive:\n%s\n%s", script, out)
				}
			})
		}
	}
}

// readPage returns what people read, by a short name.
func readPage(t *testing.T, page string) string {
	t.Helper()
	if page == "boxsign" {
		// What boxsign prints is followed by nothing but the end of a string.
		text, err := os.ReadFile(filepath.Join("..", "..", "internal", "signer", "report.go"))
		if err != nil {
			t.Fatal(err)
		}
		_, check, _ := strings.Cut(string(text), "const boxCheck = \"")
		check, _, _ = strings.Cut(check, "\"")
		return "    " + check + "\n"
	}
	if page != "README.md" && page != "signing/doc.go" {
		page = filepath.Join("docs", page)
	}
	text, err := os.ReadFile(filepath.Join("..", "..", page))
	if err != nil {
		t.Fatal(err)
	}
	if page == "README.md" { // what comes before installs the programs themselves
		_, tours, ok := strings.Cut(string(text), "\n## Five minutes as")
		if !ok {
			t.Fatal("README.md has no tours")
		}
		return tours
	}
	return string(text)
}

// recipes finds the commands in a page that check an update, each with those above it, without text
// between, that make what it needs: a script each.
func recipes(page string) []string {
	command := regexp.MustCompile(`^(?:    |//\t|)(?:\$ )?((?:curl|sha256sum|openssl pkeyutl|boxsign verify|boxup .*--key) .*)$`)
	checks := regexp.MustCompile(`openssl pkeyutl -verify|sha256sum .*-c\b|\| cmp |^boxsign verify |^boxup .*--key `)
	var out, before []string
	for line := range strings.Lines(page) {
		line = strings.TrimSuffix(line, "\n")
		m := command.FindStringSubmatch(line)
		switch {
		case m == nil && strings.TrimSpace(line) != "":
			before = nil
		case m == nil:
		case checks.MatchString(m[1]):
			out = append(out, inShell(append(slices.Clone(before), m[1])))
		default:
			before = append(before, m[1])
		}
	}
	return out
}

// inShell makes the script of a recipe: what stands for the name of the update becomes $U.
func inShell(lines []string) string {
	script := strings.Join(lines, "\n")
	for _, name := range []string{"opq-box-update-1550190683.tar.bz2", "p-7.tar.gz"} {
		script = strings.ReplaceAll(script, name, "$U")
	}
	script = regexp.MustCompile(`(^|[ \n])U\b`).ReplaceAllString(script, "${1}$$U")
	return strings.ReplaceAll(script, "http://updates.example", "$O")
}

// mirrored is a mirror, and where its files and the keys lie.
type mirrored struct {
	url, dir, keys string
}

func mirrorOf(t *testing.T, dir, name string) mirrored {
	t.Helper()
	files := filepath.Join(dir, name)
	mux := http.NewServeMux()
	mux.Handle("GET /update/", http.StripPrefix("/update/", http.FileServer(http.Dir(files))))
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "1550190683") })
	mux.HandleFunc("GET /ls", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "opq-box-update-1550190683.tar.bz2") })
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return mirrored{s.URL, files, dir}
}

// boxOfTest keeps boxup from the box that the test runs on.
const boxOfTest = `
boxup() { command boxup --state state --config config.json "$@"; }
echo '{"mirrors":["http://127.0.0.1:1"],"root":"none","reboot":"never"}' >config.json
`

// run runs a script on a box that has the public key and has fetched all from the mirror.
func (m mirrored) run(t *testing.T, script string, env []string) (string, error) {
	t.Helper()
	box := t.TempDir()
	for _, from := range []string{m.dir + "/.", m.keys + "/K", m.keys + "/restored", m.keys + "/K/release.pub"} {
		if out, err := exec.Command("cp", "-a", from, box).CombinedOutput(); err != nil {
			t.Fatalf("cp: %v\n%s", err, out)
		}
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-eu", "-c", boxOfTest+script)
	cmd.Dir = box
	cmd.Env = slices.Concat(os.Environ(), env, []string{"O=" + m.url})
	out, err := cmd.CombinedOutput()
	return string(out), err
}
