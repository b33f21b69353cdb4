package testworld

import (
	"bytes"
	_ "embed"
	"os"
	"os/exec"
	"path/filepath"
)

//go:embed testdata/before.tar.gz
var before []byte

// BeforeNow is a time at which nothing that Before unpacks has expired.
const BeforeNow = "2026-12-01T00:00:00Z"

// Before unpacks into dir data that an earlier version made, one of each kind that the programs keep on a disk.
// testdata/before.sh says what is in it and how it was made.
func Before(dir string) error {
	tar := exec.Command("tar", "-xzf", "-", "-C", dir, "--strip-components=1", "--no-same-owner")
	tar.Stdin = bytes.NewReader(before)
	if err := tar.Run(); err != nil {
		return err
	}
	for _, name := range []string{"mirror/settings.json", "box/config.json"} {
		path := filepath.Join(dir, name)
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := os.WriteFile(path, bytes.ReplaceAll(text, []byte("/srv/fleet/"), []byte(dir+"/")), 0o600); err != nil {
			return err
		}
	}
	return nil
}
