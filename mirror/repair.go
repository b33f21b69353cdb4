package mirror

import (
	"context"
	"fmt"

	"github.com/openpowerquality/box-update-server/store"
)

// Repaired is the result of a repair.
type Repaired struct {
	Problems []store.Problem // that were found; damaged archives are in quarantine
	Result                   // what was fetched
}

// Repair reads every archive, moves damaged ones to quarantine, and fetches all archives that should be in place and are
// not. Of a damaged archive it fetches only the damaged blocks. Syncs may run meanwhile, but Repair fetches only between
// them. Of look it uses Checked and Read.
//
// After nil, all archives are in place. The errors are those of store.Store.Check and of Sync.
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
