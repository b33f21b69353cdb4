package testworld

import (
	"embed"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// tufJS holds the files by which npm installs tuf-js and its dependencies, each pinned by its digest.
//
//go:embed tufjs/package.json tufjs/package-lock.json
var tufJS embed.FS

// TUFJS installs tuf-js, an independent TUF client, and copies the script that uses it. It returns the path of the copy,
// from which node finds tuf-js. It skips the test if node or npm is missing, and under -short.
func TUFJS(t testing.TB, script string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("installs tuf-js")
	}
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			NotTested(t, "another TUF client", err)
		}
	}
	dir := t.TempDir()
	for _, name := range []string{"package.json", "package-lock.json"} {
		data, err := tufJS.ReadFile("tufjs/" + name)
		if err := errors.Join(err, os.WriteFile(filepath.Join(dir, name), data, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(script)
	path := filepath.Join(dir, filepath.Base(script))
	if err := errors.Join(err, os.WriteFile(path, data, 0o644)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	return path
}
