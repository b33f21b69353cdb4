package mirror

import (
	"context"
	"errors"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

// demandRest is how long an archive on demand stays unused before it makes room for another one on demand. Clients
// return within longestReturn.
const demandRest = 10 * time.Minute

// checkRoom refuses archives of a repository that is about to be served, if they do not fit. Archives that are not
// kept any more make room first, then damaged ones, then those on demand, and last those that are just coming on demand.
func (m *Mirror) checkRoom(ctx context.Context, wanted []trust.Release, repo *trust.Repository) error {
	err := m.c.Store.CheckRoom(ctx, wanted, m.c.MaxBytes)
	if !errors.Is(err, disk.ErrNoSpace) {
		return err
	}
	m.collect(ctx)
	keep := m.c.Store.Kept(repo)
	err = m.makeRoom(ctx, wanted, keep, 0)
	if !errors.Is(err, disk.ErrNoSpace) {
		return err
	}
	return m.withoutDemands(func() error { return m.makeRoom(ctx, wanted, keep, 0) })
}

// checkRoomOnDemand refuses an archive that does not fit beside those that a sync is fetching. Damaged archives, and
// those on demand that were not used lately, make room.
func (m *Mirror) checkRoomOnDemand(ctx context.Context, rel trust.Release) error {
	m.mu.Lock()
	wanted := append([]trust.Release{rel}, m.planned...)
	m.mu.Unlock()
	return m.makeRoom(ctx, wanted, nil, demandRest)
}

// makeRoom removes damaged archives, and those on demand that were not used for that time, as far as others need room.
func (m *Mirror) makeRoom(ctx context.Context, wanted, keep []trust.Release, unused time.Duration) error {
	got, err := m.c.Store.MakeRoom(ctx, wanted, m.c.MaxBytes, store.Eviction{Unused: unused, Keep: keep, Damaged: true})
	m.logRemoved("archives on demand, or damaged, removed for others", got)
	return err
}

// withoutDemands ends all fetches on demand, and calls do before another one may begin.
func (m *Mirror) withoutDemands(do func() error) error {
	m.demanding.Lock()
	defer m.demanding.Unlock()
	m.mu.Lock()
	for _, cancel := range m.demands {
		cancel()
	}
	m.mu.Unlock()
	m.demanded.Wait()
	return do()
}

// runOnDemand calls do for a fetch on demand. The context of do ends when a sync needs the room.
func (m *Mirror) runOnDemand(ctx context.Context, d update.Digest, do func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m.demanding.Lock() // so that withoutDemands finds all that have begun
	m.demanded.Add(1)
	m.mu.Lock()
	m.demands[d] = cancel
	m.mu.Unlock()
	m.demanding.Unlock()
	defer m.demanded.Done()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.demands, d)
	}()
	return do(ctx)
}

func (m *Mirror) logRemoved(what string, got store.Collected) {
	if len(got.Digests) > 0 {
		m.c.Logger.Info(what, "count", len(got.Digests), "bytes", got.Bytes)
	}
}
