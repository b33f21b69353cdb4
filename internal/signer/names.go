package signer

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/openpowerquality/box-update-server/internal/disk"
)

// maxListed bounds the list that names are completed from, in bytes.
const maxListed = 16 << 20

// ListedNames returns the names in the newest list of a directory, sorted; none if it can't be read. Nothing is verified:
// the names are only good to complete what a person types.
func ListedNames(dir string) []string {
	newest, path := 0, ""
	lists, _ := filepath.Glob(filepath.Join(dir, "metadata", "*.targets.json"))
	for _, l := range lists {
		var n int
		if _, err := fmt.Sscanf(filepath.Base(l), "%d.targets.json", &n); err == nil && n > newest {
			newest, path = n, l
		}
	}
	var list struct {
		Signed struct {
			Targets map[string]json.RawMessage `json:"targets"`
		} `json:"signed"`
	}
	b, err := disk.ReadFile(path, maxListed)
	if err != nil || json.Unmarshal(b, &list) != nil {
		return nil
	}
	return slices.Sorted(maps.Keys(list.Signed.Targets))
}
