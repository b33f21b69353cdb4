package mirror_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/mirror"
	"github.com/openpowerquality/box-update-server/mirror/export"
	"github.com/openpowerquality/box-update-server/store"
)

// TestBefore: an export of an earlier version is taken in, and so is what a mirror of that version kept.
func TestBefore(t *testing.T) {
	dir := testworld.TempDir(t)
	if err := testworld.Before(dir); err != nil {
		t.Fatal(err)
	}
	at, err := time.Parse(time.RFC3339, testworld.BeforeNow)
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.ReadFile(filepath.Join(dir, "1.root.json"))
	if err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return at }

	s, err := store.Open(t.Context(), store.Config{Dir: filepath.Join(dir, "new"), Root: root, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	file, err := os.Open(filepath.Join(dir, "export.tar"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := (export.Import{Store: s, Now: now}).Read(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	for _, rel := range s.Repository().Releases() {
		if !s.Has(rel) {
			t.Errorf("%v was not taken in", rel.Name())
		}
	}
	if got := len(s.Repository().Releases()); got != 2 {
		t.Errorf("expected 2 updates, got %d", got)
	}

	m, err := store.OpenReadOnly(t.Context(), store.Config{Dir: filepath.Join(dir, "mirror"), Root: root, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	f, warnings, err := mirror.ReadHealth(m, 0, at)
	if err != nil || !f.Synced || f.Own.Snapshot != 10 || f.Checked.IsZero() || len(f.Upstreams) != 1 {
		t.Errorf("got %+v, %v, %v", f, warnings, err)
	}
}
