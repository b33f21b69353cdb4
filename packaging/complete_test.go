package packaging_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Values are completed by the words that stand for them in the help.
func TestCompleteValues(t *testing.T) {
	t.Parallel()
	bin, dir := t.TempDir(), t.TempDir()
	for _, c := range commands(t) {
		run(t, exec.Command("go", "build", "-o", bin, "../cmd/"+c))
	}
	metadata := filepath.Join(dir, "R", "metadata")
	must(t, os.MkdirAll(metadata, 0o755))
	for name, list := range map[string]string{"9.targets.json": "p-1.tar.gz", "10.targets.json": "p-2.tar.gz"} {
		must(t, os.WriteFile(filepath.Join(metadata, name), []byte(`{"signed": {"targets": {"`+list+`": {}, "p-3.tar.gz": {}}}}`), 0o600))
	}
	const (
		anyFile = ":0"
		nothing = ":4" // no files
		byName  = ":8" // files with these extensions
		dirs    = ":16"
	)
	for line, want := range map[string]string{
		"box-update-server serve --log-format ":     "text json " + nothing,
		"box-update-server --on-demand ":            "fetch redirect none " + nothing,
		"box-update-server serve --data-dir ":       dirs,
		"box-update-server serve --config ":         "json " + byName,
		"box-update-server serve --listen ":         nothing,
		"box-update-server serve ":                  nothing,
		"box-update-server import ":                 anyFile,
		"box-update-server mirror ":                 nothing,
		"box-update-server completion ":             "bash zsh fish powershell " + nothing,
		"boxsign publish ":                          "tar.bz2 tar.gz tar.zst " + byName,
		"boxsign publish p-1.tar.gz ":               "tar.bz2 tar.gz tar.zst " + byName,
		"boxsign build ":                            dirs,
		"boxsign build d ":                          nothing,
		"boxsign keygen ":                           "root release online " + nothing,
		"boxsign root add-key root ":                anyFile,
		"boxsign add --release-key ":                "pem pub " + byName,
		"boxsign init --root ":                      "json " + byName,
		"boxsign withdraw --repo R ":                "p-2.tar.gz p-3.tar.gz " + nothing,
		"boxsign withdraw --repo R p-2.tar.gz ":     "p-3.tar.gz " + anyFile,
		"boxsign rollout pause --repo=R ":           "p-2.tar.gz p-3.tar.gz " + nothing,
		"boxsign withdraw --repo http://a.example ": nothing,
		"boxup init --root ":                        "json " + byName,
		"boxup init --root r ":                      nothing,
		"boxup update --key ":                       "pem pub " + byName,
		"boxup install ":                            "tar.bz2 tar.gz tar.zst " + byName,
		"boxup check ":                              nothing,
	} {
		args := strings.Split(line, " ")
		cmd := exec.Command(filepath.Join(bin, args[0]), slices.Insert(args[1:], 0, "__complete")...)
		cmd.Dir = dir
		out := run(t, cmd)
		var got []string
		for l := range strings.Lines(out) {
			word, _, _ := strings.Cut(strings.TrimSpace(l), "\t")
			got = append(got, word)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: got %q, want %q", line, got, want)
		}
	}
}
