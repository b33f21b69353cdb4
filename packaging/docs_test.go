package packaging_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The man pages and completions of all commands, as packages have them.
func TestDocumentationOfCommands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, c := range commands(t) {
		cmd := exec.Command("go", "run", "-tags", "docs", "./cmd/"+c, dir)
		cmd.Dir, cmd.Env = source, append(os.Environ(), "SOURCE_DATE_EPOCH="+epoch)
		run(t, cmd)
		t.Run("bash "+c, func(t *testing.T) { checkBash(t, dir, c) })
		t.Run("zsh "+c, func(t *testing.T) {
			run(t, exec.Command(need(t, "zsh", "zsh"), "-n", filepath.Join(dir, "zsh", "_"+c)))
		})
		t.Run("fish "+c, func(t *testing.T) {
			run(t, exec.Command(need(t, "fish", "fish"), "--no-execute", filepath.Join(dir, "fish", c+".fish")))
		})
	}
	t.Run("man", func(t *testing.T) { checkMan(t, filepath.Join(dir, "man")) })
}

// checkMan formats all pages: none has a mistake, and each says what it is about.
func checkMan(t *testing.T, dir string) {
	need(t, "man", "man-db")
	pages, err := filepath.Glob(filepath.Join(dir, "*.[15]"))
	if err != nil || len(pages) < 2*len(commands(t)) {
		t.Fatalf("got %q, %v", pages, err)
	}
	for _, name := range []string{"boxup.json.5", "box-update-server.json.5"} {
		if !slices.Contains(pages, filepath.Join(dir, name)) {
			t.Errorf("there is no page %s", name)
		}
	}
	for _, page := range pages {
		cmd := exec.Command("man", "--local-file", "--warnings=w", page)
		cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MANWIDTH=100", "MANPAGER=cat", "MANROFFOPT=-c")
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		name := strings.TrimSuffix(strings.TrimSuffix(filepath.Base(page), ".1"), ".5")
		sections := []string{"NAME", "SYNOPSIS", "DESCRIPTION", "EXIT STATUS", "ENVIRONMENT", "FILES", "EXAMPLES", "SEE ALSO"}
		if strings.HasSuffix(page, ".5") {
			sections = []string{"NAME", "DESCRIPTION", "EXAMPLES", "SEE ALSO"}
		}
		for _, s := range sections {
			if !strings.Contains(string(out), "\n"+s+"\n") {
				t.Errorf("%s has no section %s", filepath.Base(page), s)
			}
		}
		for _, other := range regexp.MustCompile(`([a-z.-]+)\(([15])\)`).FindAllStringSubmatch(string(out), -1) {
			if !slices.Contains(pages, filepath.Join(dir, other[1]+"."+other[2])) {
				t.Errorf("%s refers to %s, which does not exist", filepath.Base(page), other[0])
			}
		}
		if err != nil || stderr.Len() > 0 || !strings.Contains(string(out), name) || !strings.Contains(string(out), "Feb 2019") {
			t.Errorf("%s: %v\n%s%s", name, err, stderr.String(), out)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "boxsign.1"))
	if err != nil || !strings.Contains(string(b), "BOXSIGN_PASSPHRASE") {
		t.Errorf("boxsign(1) does not tell of the passphrase: %v", err)
	}
}

// checkBash has bash complete the one subcommand that begins so.
func checkBash(t *testing.T, dir, command string) {
	begin, want := map[string]string{"box-update-server": "fsc", "boxsign": "inspe", "boxup": "upda"}[command], map[string]string{
		"box-update-server": "fsck", "boxsign": "inspect", "boxup": "update"}[command]
	bin := t.TempDir()
	run(t, exec.Command("go", "build", "-o", bin, "../cmd/"+command))
	script := `source "$1"
COMP_WORDS=("$2" "$3") COMP_CWORD=1 COMP_LINE="$2 $3" COMP_POINT=${#COMP_LINE} COMP_TYPE=9
_get_comp_words_by_ref() { cur=${COMP_WORDS[COMP_CWORD]} prev=$2 words=("${COMP_WORDS[@]}") cword=$COMP_CWORD; }
__start_` + command + ` "$2" "$3" "$2"
printf '%s\n' "${COMPREPLY[@]}"`
	cmd := exec.Command("bash", "-c", script, "bash", filepath.Join(dir, "bash", command), command, begin)
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	if got := strings.Fields(run(t, cmd)); len(got) == 0 || got[0] != want {
		t.Errorf("%s %s: got %q, want %q", command, begin, got, want)
	}
}
