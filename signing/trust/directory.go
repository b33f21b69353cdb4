package trust

import (
	"context"
	"path/filepath"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/update"
)

// Directory is what a signer reads and writes by itself in the directory of a package store's Store:
//
//	metadata/…               the files of a State, which the Store commits
//	staging/<N>.<role>.json  proposals that wait for more signatures
//
// Archives are the Store's alone. Whoever writes here holds the Store's lock.
type Directory struct {
	FS   disk.FS
	Path string
}

// Fetch reads a metadata file of the directory, as a Fetcher does.
func (d Directory) Fetch(_ context.Context, name string, limit int64, _ update.Digest) ([]byte, error) {
	return readFile(filepath.Join(d.Path, "metadata", filepath.Base(name)), limit)
}
