package disk

import (
	"io/fs"
	"os"
	"path/filepath"
)

// Glob returns the paths below dir that match a pattern, as filepath.Glob does, ascending; dir itself is no
// pattern, whatever characters are in its name. Errors of the disk are ignored, as filepath.Glob does.
func Glob(dir, pattern string) ([]string, error) {
	names, err := fs.Glob(os.DirFS(dir), pattern)
	for i, name := range names {
		names[i] = filepath.Join(dir, filepath.FromSlash(name))
	}
	return names, err
}
