package mirror_test

import (
	"bytes"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/mirror/export"
	"github.com/openpowerquality/box-update-server/store"
)

// FuzzImport: whatever is imported, what is served then is nothing or the repository that was signed,
// and no archive differs from its name.
func FuzzImport(f *testing.F) {
	o := newOrigin(f, one)
	whole := o.export(export.Since{})
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add([]byte{})
	for _, e := range entries(f, whole) {
		f.Add(archiveOf(f, []entry{e}))
	}
	for n := 0; n < len(whole); n += 1024 {
		raw := slices.Clone(whole)
		raw[n] ^= 0x20
		f.Add(raw)
	}
	root, signed := o.rootOne(), o.s.Repository()
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := store.Open(t.Context(), store.Config{Dir: filepath.Join(testworld.TempDir(t), "D"), Root: root})
		must(t, err)
		defer func() { must(t, s.Close()) }()
		_, err = export.Import{Store: s, Now: func() time.Time { return day }}.Read(t.Context(), bytes.NewReader(raw))
		repo := s.Repository()
		if (err == nil) != (repo != nil) {
			t.Fatalf("expected a repository or an error, got %v and %v", testworld.Listed(repo), err)
		}
		if repo == nil {
			return
		}
		if !slices.Equal(testworld.Listed(repo), testworld.Listed(signed)) {
			t.Fatalf("%v listed", testworld.Listed(repo))
		}
		if problems, err := s.Check(t.Context(), store.Check{Hash: true}); err != nil || len(problems) > 0 {
			t.Fatalf("not whole: %v, %v", problems, err)
		}
	})
}
