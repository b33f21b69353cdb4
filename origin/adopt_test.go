package origin_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/openpowerquality/box-update-server/origin"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

// TestWhatWaitsInTheDirectory has a server take over what boxsign left there, and leave alone what it
// can't judge.
func TestWhatWaitsInTheDirectory(t *testing.T) {
	w := newWorldOf(t, 3, 2)
	p := w.list(w.releases[:1], one)
	held := w.list(w.releases[:2], two)
	path := func(role trust.Role, version int64) string {
		return filepath.Join(w.dir, "staging", trust.FileName(role, version))
	}
	must(t, os.WriteFile(path(trust.RoleTargets, 2), p.Raw(), 0o644))
	must(t, os.WriteFile(path(trust.RoleTargets, 3), held.Raw(), 0o644)) // under another number
	must(t, os.WriteFile(path(trust.RoleRoot, 2), []byte("{}"), 0o644))
	w.restart()
	w.wantKept(nil, []int64{2})
	if _, err := os.Lstat(path(trust.RoleTargets, 2)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("expected the file to be gone, got %v", err)
	}
	for _, left := range []string{path(trust.RoleTargets, 3), path(trust.RoleRoot, 2)} {
		if _, err := os.Lstat(left); err != nil {
			t.Error(err)
		}
	}
	w.restart()
	both, err := p.Cosign(t.Context(), w.releases[1])
	must(t, err)
	w.finish(w.send(both, origin.StatusStaged))
	w.wantListed(one)
}
