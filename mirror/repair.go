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
// Syncs go on meanwhile; what is fetched waits for one that is under way. Of look, Checked and Read count.
//
// Where the error is nil, all is well again. The errors are those of store.Store.Check and of Sync.
func (m *Mirror) Repair(ctx context.Context, look store.Check) (Repaired, error) {
	s := m.c.Store
	problems, err := s.Check(ctx, store.Check{Hash: true, Quarantine: true, Checked: look.Checked, Read: look.Read})
	if err != nil {
		return Repaired{}, fmt.Errorf("repair: %w", err)
	}
	var all Result
	err = m.lock.runPreemptible(ctx, func(ctx context.Context) error {
		result, err := m.bringAll(ctx, s.Missing(s.Repository()), s.Repository())
		m.c.Ended()
		all.add(result)
		return err
	})
	if err != nil {
		err = fmt.Errorf("repair: %w", err)
	}
	return Repaired{problems, all}, err
}
