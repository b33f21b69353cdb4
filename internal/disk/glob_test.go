package disk

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestGlob(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "[S]*?")
	for _, name := range []string{"work", "work.2", "other", "ab/x.json"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for pattern, want := range map[string][]string{
		"work*":  {filepath.Join(dir, "work"), filepath.Join(dir, "work.2")},
		"*/*":    {filepath.Join(dir, "ab", "x.json")},
		"none*":  nil,
		"none/*": nil,
	} {
		if got, err := Glob(dir, pattern); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %q, %v; want %q", pattern, got, err, want)
		}
	}
	if got, err := Glob(filepath.Join(dir, "absent"), "*"); err != nil || len(got) != 0 {
		t.Errorf("got %q, %v", got, err)
	}
}
