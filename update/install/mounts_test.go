package install_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/update/install"
)

// What a script has bound into the unpacked folder, and left there, is another file system's: it is
// detached, and nothing in it is removed.
func TestMountsAreLeftAlone(t *testing.T) {
	for name, end := range map[string]error{"exit 0": nil, "exit 1": install.ErrScript} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			precious := filepath.Join(b.home, "precious things", "inner")
			must(t, os.MkdirAll(precious, 0o755))
			kept := filepath.Join(precious, "file")
			must(t, os.WriteFile(kept, []byte("data"), 0o644))
			probe := t.TempDir()
			if err := syscall.Mount(precious, probe, "", syscall.MS_BIND, ""); err != nil {
				testworld.NotTested(t, "mounts that a script leaves", err)
			}
			must(t, syscall.Unmount(probe, 0))
			p := script(t, 7, ran+`mkdir -p "with space/in it" twice
mount --bind "$HOME/precious things" "with space"
mount --bind "$HOME/precious things" twice
mount --bind "$HOME/precious things/inner" twice/inner
mount --bind "$HOME/precious things" twice
[ -e "with space/inner/file" ] || exit 7
`+name+"\n")
			_, _, err := b.install(p, install.Options{})
			if end == nil {
				must(t, err)
			} else {
				wantErr(t, err, end)
			}
			b.wantTold("ran", "7")
			if raw, err := os.ReadFile(kept); err != nil || string(raw) != "data" {
				t.Errorf("the file that was bound there: %q, %v", raw, err)
			}
		})
	}
}
