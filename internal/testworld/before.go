package testworld

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// BeforeNow is a time at which nothing that Before unpacks has expired.
const BeforeNow = "2026-12-01T00:00:00Z"

// Before unpacks data that an earlier version made into dir: one of each kind that the programs keep. What is in
// it, and how it was made, testdata/before.sh tells.
func Before(dir string) error {
	_, here, _, _ := runtime.Caller(0)
	archive := filepath.Join(filepath.Dir(here), "testdata", "before.tar.gz")
	if err := exec.Command("tar", "-xzf", archive, "-C", dir, "--strip-components=1", "--no-same-owner").Run(); err != nil {
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
