package main

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/openpowerquality/box-update-server/update"
)

// manual returns docs/BOX.md.
func manual(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", "BOX.md"))
	check(t, err)
	return string(b)
}

// blocks returns what the manual shows as code, in order.
func blocks(page string) (out []string) {
	for _, m := range regexp.MustCompile("(?m)^```sh\n((?:[^`].*\n)+)```$|^((?:    .*\n)+)").FindAllStringSubmatch(page, -1) {
		out = append(out, m[1]+m[2])
	}
	return out
}

// A block of the manual is known by how it begins. Before each, as a person would, other commands are said.
var manualBlocks = []struct{ begins, before string }{
	{"boxup init ", ""},
	{"curl -O ", ""},
	{"boxsign verify --key ", "curl -sO http://updates.example/update/$U -O http://updates.example/update/$U.sig"},
	{"    boxsign bootstrap ", ""},
}

// notCommands is how the one block begins that has no commands.
const notCommands = "    /usr/local/bin/boxup\n"

// saying is what the commands of the manual meet: a terminal can't be asked, and a box of the test is no box
// of this machine.
const saying = `set -eu
boxup() {
	case $1 in
	init) set -- "$@" --root-fingerprint "$FINGERPRINT" ;;
	esac
	command boxup "$@" --config C/config.json --state S
}
boxsign() {
	case $1 in
	publish) set -- "$@" --yes ;;
	esac
	command boxsign "$@"
}
`

// manualSite is an origin and a mirror with the update $U, and a directory with what a box was given.
func manualSite(t *testing.T) (s *site, say func(script string) string) {
	t.Helper()
	s = newSite(t)
	const u = "opq-box-update-1550190600.tar.bz2"
	s.must(0, "boxsign init --keys K --repo R --yes")
	s.publish(u, "true")
	origin, _ := s.serve("serve --data-dir R --online-key K/online.pem")
	mirror, _ := s.serve("mirror " + origin + " --root R/metadata/1.root.json --data-dir M")
	root, err := os.ReadFile(s.path("R/metadata/1.root.json"))
	check(t, err)
	check(t, os.WriteFile(s.path("1.root.json"), root, 0o644))
	check(t, os.Rename(s.path("K/release.pub"), s.path("release.pub")))
	check(t, os.Remove(s.path(u)))
	hosts := strings.NewReplacer("http://mirror.example", mirror, "http://updates.example", origin)
	return s, func(script string) string {
		t.Helper()
		check(t, os.RemoveAll(s.path("S")))
		cmd := exec.CommandContext(t.Context(), "sh", "-c", saying+hosts.Replace(script))
		cmd.Dir = s.dir
		cmd.Env = append(os.Environ(), "U="+u, "FINGERPRINT="+update.Sum(root).String(), "BOXSIGN_PASSPHRASE=mosaic-Tulip-93-harbor")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%v\n%s\n%s", err, script, out)
		}
		return string(out)
	}
}

// TestManual says every command that the manual shows.
func TestManual(t *testing.T) {
	t.Parallel()
	s, say := manualSite(t)
	// What "boxsign bootstrap" packs lies beside boxsign.
	boxsign, err := exec.LookPath("boxsign")
	check(t, err)
	b, err := os.ReadFile(crossBuild(t, "arm"))
	check(t, err)
	check(t, os.WriteFile(filepath.Join(filepath.Dir(boxsign), "boxup-linux-armv6"), b, 0o755))

	expected := slices.Clone(manualBlocks)
	for _, block := range blocks(manual(t)) {
		if strings.HasPrefix(block, notCommands) {
			continue
		}
		if len(expected) == 0 || !strings.HasPrefix(block, expected[0].begins) {
			t.Fatalf("the manual shows\n%s\nexpected %+v", block, expected)
		}
		say(expected[0].before + "\n" + block)
		expected = expected[1:]
	}
	if len(expected) > 0 {
		t.Errorf("the manual does not show %+v", expected)
	}
	s.eventually("the bootstrap update at the origin", func() bool {
		return strings.Contains(s.must(0, "boxsign status --keys K --repo R"), "opq-box-update-1550190683.tar.bz2")
	})
}

// TestManualCommands says each command of the table of the manual, which has them all.
func TestManualCommands(t *testing.T) {
	t.Parallel()
	_, say := manualSite(t)
	row := regexp.MustCompile("(?m)^\\| `boxup ([a-z]+)([^`]*)` \\|")
	listed := map[string]string{}
	for _, m := range row.FindAllStringSubmatch(manual(t), -1) {
		listed[m[1]] = strings.ReplaceAll(strings.TrimSpace(m[2]), `\`, "")
	}
	want := map[string]string{"check": "", "fetch": "", "verify": "FILE", "install": "[NAME|FILE]", "update": "", "status": ""}
	if !maps.Equal(listed, want) {
		t.Fatalf("the manual lists %v, expected %v", listed, want)
	}
	out := say(`boxup init --root 1.root.json http://mirror.example
boxup check || [ $? = 10 ]
boxup fetch
cp S/sha256/??/* $U
boxup verify $U
boxup install
boxup install --force $PWD/$U
boxup fetch $U
boxup install --force $U
boxup update
boxup status
for command in check fetch "verify $U" "install --force $PWD/$U" update status; do
	boxup $command --json | python3 -m json.tool >json
done`)
	if strings.Count(out, "installed: opq-box-update-1550190600.tar.bz2\n") != 4 {
		t.Errorf("they say\n%s", out)
	}
}

// manualSettings returns the settings in the manual's table.
func manualSettings(t *testing.T) (all []string) {
	t.Helper()
	_, section, _ := strings.Cut(manual(t), "\n## Configuration\n")
	section, _, _ = strings.Cut(section, "\n## ")
	for _, m := range regexp.MustCompile("(?m)^\\| (`[^|]*) \\|").FindAllStringSubmatch(section, -1) {
		for name := range strings.SplitSeq(m[1], ", ") {
			all = append(all, strings.Trim(name, "`"))
		}
	}
	return all
}
