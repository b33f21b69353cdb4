package packaging_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The commands of README.md are those that the tests of a release say, and the guest.
func TestPackagingPage(t *testing.T) {
	page, err := os.ReadFile("README.md")
	must(t, err)
	var elsewhere strings.Builder
	for _, name := range []string{"release_test.go", "packaging_test.go", "testdata/guest", "release", "../Makefile"} {
		b, err := os.ReadFile(name)
		must(t, err)
		elsewhere.Write(b)
	}
	run := strings.NewReplacer(`", "`, " ", `"-`, "-").Replace(elsewhere.String())
	commands := 0
	for _, line := range regexp.MustCompile(`(?m)^    (\w.*)$`).FindAllStringSubmatch(string(page), -1) {
		for part := range strings.SplitSeq(line[1], " && ") {
			commands++
			if want := known(part); !strings.Contains(run, want) {
				t.Errorf("%s: no test says %q", part, want)
			}
		}
	}
	if commands < 8 {
		t.Errorf("%d commands", commands)
	}
}

// known returns what of a command stands in a test: of those whose names depend on the release, the rest.
func known(command string) string {
	switch command, _, _ = strings.Cut(command, "  "); {
	case strings.HasPrefix(command, "make release"):
		return "\nrelease:\n\tpackaging/release"
	case strings.HasPrefix(command, "boxsign verify"):
		return "boxsign, \"verify --key"
	case strings.HasPrefix(command, "tar "):
		return "\"tar -xOjf"
	}
	return command
}
