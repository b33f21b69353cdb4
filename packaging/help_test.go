package packaging_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// The help of every command is no wall: it fits a terminal, has an example, and says what each flag does.
func TestHelp(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	for _, c := range commands(t) {
		run(t, exec.Command("go", "build", "-o", bin, "../cmd/"+c))
		seen := checkHelp(t, filepath.Join(bin, c), c)
		if len(seen) < 10 {
			t.Errorf("%s: only the commands %q were found", c, seen)
		}
	}
}

var (
	helpCommand = regexp.MustCompile(`(?m)^  ([a-z][a-z-]*) {2,}[A-Z].*[^.]$`)
	helpFlag    = regexp.MustCompile(`(?m)^  (?:-[a-z], )?(--[a-z-]+)(?: (\S+))?(?: {2,}(.*)|\n {6,}(.*))?$`)
)

// checkHelp checks the help of a command and of all below it, and returns their names.
func checkHelp(t *testing.T, program string, words ...string) (seen []string) {
	name := strings.Join(words, " ")
	help := run(t, exec.Command(program, append(words[1:], "--help")...))
	lines := strings.Split(strings.TrimSuffix(help, "\n"), "\n")
	if len(lines) > 40 && name != "box-update-server serve" {
		t.Errorf("%s --help has %d lines:\n%s", name, len(lines), help)
	}
	for _, line := range lines {
		if n := utf8.RuneCountInString(line); n > 80 {
			t.Errorf("%s --help has a line of %d columns: %s", name, n, line)
		}
		if strings.TrimRight(line, " ") != line {
			t.Errorf("%s --help has blanks at the end of %q", name, line)
		}
	}
	if !strings.Contains(help, "\nExamples:\n  ") || !strings.Contains(help, "\nUsage: "+name) {
		t.Errorf("%s --help has no usage or no example:\n%s", name, help)
	}
	checkExamples(t, program, help)
	_, flags, _ := strings.Cut(help, "\nFlags:\n")
	for _, f := range helpFlag.FindAllStringSubmatch(flags, -1) {
		if f[3]+f[4] == "" {
			t.Errorf("%s --help does not say what %s does:\n%s", name, f[1], help)
		}
	}
	seen = append(seen, name)
	list, _, _ := strings.Cut(help, "\nFlags:\n")
	for _, sub := range helpCommand.FindAllStringSubmatch(list, -1) {
		seen = append(seen, checkHelp(t, program, append(words[:len(words):len(words)], sub[1])...)...)
	}
	return seen
}

// checkExamples runs each example with --help: an unknown command, an unknown flag or a malformed value is refused all the same.
func checkExamples(t *testing.T, program, help string) {
	_, examples, _ := strings.Cut(help, "\nExamples:\n")
	examples, _, _ = strings.Cut(examples, "\n\n")
	for example := range strings.SplitSeq(strings.ReplaceAll(examples, "\\\n    ", ""), "\n") {
		example = strings.TrimPrefix(strings.TrimSpace(example), "ssh box ")
		if strings.HasPrefix(example, "source ") { // in the shell's own words
			continue
		}
		example, _, _ = strings.Cut(example, " > ")
		example, _, _ = strings.Cut(example, " |")
		cmd := exec.Command("sh", "-c", example+" --help")
		cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(program)+":"+os.Getenv("PATH"))
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "\nUsage: ") {
			t.Errorf("the example %q does not run: %v\n%s", example, err, out)
		}
	}
}
