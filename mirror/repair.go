package mirror

import (
	"context"
	"fmt"

	"github.com/openpowerquality/box-update-server/store"
)

// Repaired is what a repair found, and did.
type Repaired struct {
	Problems []store.Problem // that were found; what is damaged is in quarantine
	Result                   // what was fetched
}

// Repair reads every archive, moves what is damaged to quarantine, and fetches what the current
// repository lists, the store keeps, and is not in place: of a damaged archive the damaged blocks alone.
// It waits for a sync that is under way. Of look, Checked and Read count.
//
// Where the error is nil, all is well again. The errors are those of store.Store.Check and of Sync.
func (m *Mirror) Repair(ctx context.Context, look store.Check) (Repaired, error) {
	if err := m.take(ctx); err != nil {
		return Repaired{}, fmt.Errorf("repair: %w", err)
	}
	defer m.release()
	s := m.c.Store
	problems, err := s.Check(ctx, store.Check{Hash: true, Quarantine: true, Checked: look.Checked, Read: look.Read})
	if err != nil {
		return Repaired{}, fmt.Errorf("repair: %w", err)
	}
	result, err := m.bringAll(ctx, biggestFirst(s.Missing(s.Repository())))
	if err != nil {
		err = fmt.Errorf("repair: %w", err)
	}
	return Repaired{problems, result}, err
}
