package origin_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

// TestDamagedMetadata: one turned bit in any file that an origin can't begin without keeps none from starting and
// publishing. Where the copy is damaged too, it names the file and how to bring it back, and nobody is told to make
// another repository.
func TestDamagedMetadata(t *testing.T) {
	base := newWorld(t)
	base.publish(one)
	base.close()
	metadata := filepath.Join(base.dir, "metadata")
	files, err := filepath.Glob(filepath.Join(metadata, "*"))
	must(t, err)
	if len(files) < 10 {
		t.Fatal(files)
	}
	turn := func(w *world, path string) {
		path = filepath.Join(w.dir, "metadata", filepath.Base(path))
		raw, err := os.ReadFile(path)
		must(t, err)
		raw[len(raw)/2] ^= 4
		must(t, os.WriteFile(path, raw, 0o644))
	}
	for _, path := range files {
		w := *base
		w.dir = filepath.Join(t.TempDir(), "R")
		must(t, os.CopyFS(w.dir, os.DirFS(base.dir)))
		turn(&w, path)
		w.open()
		w.publish(one, two)
		w.wantListed(one, two)
		w.close()
	}
	for _, name := range []string{"1.root.json", "timestamp.json", trust.FileName(trust.RoleSnapshot, 2), trust.FileName(trust.RoleTargets, 2)} {
		w := *base
		w.dir = filepath.Join(t.TempDir(), "R")
		must(t, os.CopyFS(w.dir, os.DirFS(base.dir)))
		turn(&w, name)
		turn(&w, disk.CopyPath(name))
		short := strings.TrimSuffix(name, ".json") // "targets 2" is how the verifier names 2.targets.json
		if number, role, ok := strings.Cut(short, "."); ok {
			short = role + " " + number
		}
		err := w.tryOpen()
		if err == nil || strings.Contains(err.Error(), "boxsign init") || !strings.Contains(err.Error(), short) {
			t.Errorf("%s: error is %v", name, err)
		}
		t.Logf("%v", err)
	}
}
