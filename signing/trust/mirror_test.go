package trust_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// files is a mirror that serves what is in the map, and counts what it is asked for.
type files struct {
	data  map[string][]byte
	asked []string
}

// copyOf returns a mirror with the metadata of a directory.
func copyOf(t testing.TB, d directory) *files {
	t.Helper()
	f := &files{data: map[string][]byte{}}
	paths, err := filepath.Glob(filepath.Join(d.Path, "metadata", "*.json"))
	if err != nil || len(paths) < 4 {
		t.Fatalf("expected at least 4 metadata files, got %v, %v", paths, err)
	}
	for _, p := range paths {
		f.data[filepath.Base(p)] = read(t, p)
	}
	return f
}

func (f *files) Fetch(ctx context.Context, name string, limit int64, known update.Digest) ([]byte, error) {
	f.asked = append(f.asked, name)
	b, ok := f.data[name]
	if !ok {
		return nil, trust.ErrNotFound
	}
	if !known.IsZero() && update.Sum(b) == known {
		return nil, trust.ErrUnchanged
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s: more than %d bytes", name, limit)
	}
	return b, ctx.Err()
}
