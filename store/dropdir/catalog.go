package dropdir

import (
	"slices"

	"github.com/openpowerquality/box-update-server/update"
)

// catalog returns the catalog of this state.
func (s *state) catalog() (*update.Catalog, error) {
	updates := make([]update.Update, 0, len(s.entries))
	for n, e := range s.entries {
		if e.listed {
			u := update.Update{Name: n, Length: e.seen.size, Time: e.seen.modified()}
			if e.known.stamp == e.seen {
				u.Digest = e.known.digest
			}
			updates = append(updates, u)
		}
	}
	return update.NewCatalog(updates, s.had)
}

func sameCatalog(a, b *update.Catalog) bool {
	return a.HadUpdates() == b.HadUpdates() && slices.Equal(a.Updates(), b.Updates())
}
