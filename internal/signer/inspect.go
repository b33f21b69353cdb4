package signer

import (
	"context"
	"os"
	"path/filepath"

	"github.com/openpowerquality/box-update-server/update/archive"
)

// Inspection is what Inspect found.
type Inspection struct {
	Archive
	Proper   bool     `json:"proper"`
	Problems []string `json:"problems"`
}

// Text returns the result for people.
func (i Inspection) Text() string {
	text := i.Archive.Text()
	for _, p := range i.Problems {
		text += lines("problem", p)
	}
	if !i.Proper {
		return text + lines("verdict", "not a proper update")
	}
	return text + lines("verdict", "a proper update")
}

// Inspect reads an archive and reports whether it is a proper update. It calls entry, which may be nil, for each entry of
// the archive; an error from entry ends the reading and is returned.
func Inspect(ctx context.Context, path string, entry func(archive.Entry) error) (Inspection, error) {
	name, err := parseArchivePath(filepath.Base(path))
	if err != nil {
		return Inspection{}, err
	}
	file, err := os.Open(path)
	if err != nil {
		return Inspection{}, err
	}
	defer file.Close() // opened for reading
	what, report, err := examine(ctx, file, name, archive.InspectOptions{Entry: entry})
	if err != nil {
		return Inspection{}, err
	}
	return Inspection{what, report.Proper(), append([]string{}, report.Problems...)}, nil
}
