package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLostRoots: where the roots of a repository are lost or damaged, every command says so and what brings them back.
// None says that there is no repository, or how to make one: boxes would refuse another.
func TestLostRoots(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	plain := dropped(t, newest)
	origin := []string{"--data-dir", w.dir, "--online-key", w.onlineKey(), "--listen", "127.0.0.1:0"}
	root := filepath.Join(w.dir, "metadata", "1.root.json")
	for damage, do := range map[string]func(path string) error{
		"lost":    os.Remove,
		"damaged": func(path string) error { return os.WriteFile(path, []byte("{}"), 0o644) },
	} {
		for _, path := range []string{root, root + ".copy"} {
			w.check(do(path))
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
			for _, must := range []string{"the repository is damaged", filepath.Dir(root), "N.root.json"} {
				if !strings.Contains(said, must) {
					t.Errorf("%s, %q: expected %q in\n%s", damage, args, must, said)
				}
			}
		}
		w.check(os.WriteFile(root, w.repo.Raw("root"), 0o644))
		w.check(os.WriteFile(root+".copy", nil, 0o644))
	}
}
