package trust_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

// TestUnreadableSector: a file that the disk can't read is like one that it damaged. Bookkeeping stops nothing, with a copy
// nothing is lost, and without a root that a box is to fetch again it has nothing that counts.
func TestUnreadableSector(t *testing.T) {
	w := newWorld(t)
	w.add(one)
	b := newBox(t, w.repo.Root())
	old, fresh := w.releases[0], testworld.NewSigner("release new")
	w.newRoot(w.roots, func(e *trust.RootEdit) error { return e.AddKey(trust.RoleTargets, fresh.Public()) })
	w.publish(trust.Change{Targets: w.propose([]*testworld.Signer{fresh})})
	w.dropRelease(old)
	w.list("withdrawn", fresh)
	w.takeBack(fresh)
	b.must(w.dir, w.clock())
	for what, cfg := range map[string]trust.Config{"box": b.cfg, "origin": config(w.dir, nil)} {
		files, err := filepath.Glob(filepath.Join(cfg.Dir, "*"))
		files = slices.DeleteFunc(files, func(f string) bool { return filepath.Ext(f) == "" && filepath.Base(f) != trust.LedgerName })
		if err != nil || len(files) < 8 {
			t.Fatal(files, err)
		}
		for _, path := range files {
			t.Run(what+" "+filepath.Base(path), func(t *testing.T) {
				good := read(t, path)
				if err := errors.Join(os.Remove(path), os.Symlink("/proc/self/mem", path)); err != nil { // begins with EIO
					t.Fatal(err)
				}
				defer func() {
					if err := errors.Join(os.Remove(path), os.WriteFile(path, good, 0o644)); err != nil {
						t.Fatal(err)
					}
				}()
				s, err := trust.Open(cfg)
				if err != nil {
					t.Fatal(err)
				}
				if root := strings.HasSuffix(path, ".root.json"); what == "box" && root && filepath.Base(path) != "1.root.json" {
					_, err := s.Current()
					wantErr(t, err, trust.ErrNone)
					wantErr(t, err, trust.ErrMalformed)
				}
				if err := s.RewriteDamaged(); err != nil {
					t.Fatal(err)
				}
				keeps := strings.Contains(path, "root.json") || strings.Contains(path, trust.LedgerName)
				if what == "origin" && keeps && string(read(t, path)) != string(good) {
					t.Errorf("after mending it is %q", read(t, path))
				}
			})
		}
	}
}
