package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/disk"
)

// TestLostRoots: where the roots of a repository are lost or damaged, every command says so and what brings them back.
// None says that there is no repository, or how to make one: boxes would refuse another.
func TestLostRoots(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	plain := dropped(t, newest)
	origin := []string{"--data-dir", w.dir, "--online-key", w.onlineKey(), "--listen", "127.0.0.1:0"}
	metadata := filepath.Join(w.dir, "metadata")
	w.owner().must("root renew", "--repo", w.dir)
	good := map[string][]byte{}
	for _, path := range glob(t, metadata, "*.root.json*") {
		good[path] = read(t, path)
	}
	if len(good) != 4 {
		t.Fatalf("%d roots and copies", len(good))
	}
	torn := func(path string) error { return os.WriteFile(path, []byte("{}"), 0o644) }
	for damage, c := range map[string]struct {
		roots string
		do    func(path string) error
	}{
		"all are lost":          {"*", os.Remove},
		"the first is damaged":  {"1", torn},
		"the newest is damaged": {"2", torn},
		"all are damaged":       {"*", torn},
	} {
		for _, path := range glob(t, metadata, c.roots+".root.json*") {
			w.check(c.do(path))
		}
		for _, args := range [][]string{
			append([]string{"config", "check"}, origin...),
			append([]string{"config", "check", "--updates-dir", plain}, origin...),
			append([]string{"serve"}, origin...),
			append([]string{"serve", "--updates-dir", plain}, origin...),
			append([]string{"doctor"}, origin...),
			{"gc", "--data-dir", w.dir},
			{"gc", "--dry-run", "--data-dir", w.dir},
			{"fsck", "--data-dir", w.dir},
			{"export", "--data-dir", w.dir, filepath.Join(t.TempDir(), "export")},
			{"import", "--data-dir", w.dir, filepath.Join(w.dir, "lock")},
			{"config", "check", "--data-dir", w.dir, "--upstream", "http://127.0.0.1:1", "--listen", "127.0.0.1:0"},
		} {
			said := ""
			for _, line := range strings.Split(exits(t, 1, args...), "\n") {
				if !strings.HasPrefix(line, "[+]") { // doctor is content with it
					said += line + "\n"
				}
			}
			for _, never := range []string{"boxsign init", "no repository", "no complete repository", "make a", "before the first", "SETTINGS"} {
				if strings.Contains(said, never) {
					t.Errorf("%s, %q: nobody may read %q in\n%s", damage, args, never, said)
				}
			}
			for _, must := range []string{"the repository is damaged", metadata, "N.root.json"} {
				if !strings.Contains(said, must) {
					t.Errorf("%s, %q: expected %q in\n%s", damage, args, must, said)
				}
			}
		}
		for path, raw := range good {
			w.check(os.WriteFile(path, raw, 0o644))
		}
	}
}

func glob(t *testing.T, dir, pattern string) []string {
	t.Helper()
	found, err := disk.Glob(dir, pattern)
	if err != nil {
		t.Fatal(err)
	}
	return found
}
