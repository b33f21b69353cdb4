package mirror

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

// demandRest is for how long what came on demand is left to those who asked for it, before it makes room for
// something else on demand. Clients return within longestReturn.
const demandRest = 10 * time.Minute

// checkRoom refuses archives that don't fit, and that a repository needs which is about to be served. What is not
// kept any more makes room first, then what is damaged, then what came on demand, then what is coming on demand.
func (m *Mirror) checkRoom(ctx context.Context, wanted []trust.Release, repo *trust.Repository) error {
	lack, err := m.lack(ctx, wanted)
	if lack <= 0 {
		return err
	}
	m.collect(ctx)
	keep := DigestsOf(m.c.Store.Kept(repo))
	err = m.evict(ctx, wanted, keep, 0)
	if !errors.Is(err, disk.ErrNoSpace) {
		return err
	}
	return m.withoutDemands(func() error { return m.evict(ctx, wanted, keep, 0) })
}

// checkRoomOnDemand refuses an archive that doesn't fit beside those that a sync is fetching, once what came on
// demand and was not used lately has made room.
func (m *Mirror) checkRoomOnDemand(ctx context.Context, rel trust.Release) error {
	m.mu.Lock()
	wanted := append([]trust.Release{rel}, m.planned...)
	m.mu.Unlock()
	return m.evict(ctx, wanted, DigestsOf(wanted), demandRest)
}

// withoutDemands ends what is being fetched on demand, keeps more from beginning, and calls do.
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

// runOnDemand calls do, whose context ends when a sync needs the room.
func (m *Mirror) runOnDemand(ctx context.Context, d update.Digest, do func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m.demanding.Lock() // withoutDemands finds all that began, and waits for no other
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

// evict has what is damaged, and what came on demand and was not used for that time, make room for archives, as far as is needed.
func (m *Mirror) evict(ctx context.Context, wanted []trust.Release, keep func(update.Digest) bool, unused time.Duration) error {
	lack, err := m.lack(ctx, wanted)
	if lack <= 0 {
		return err
	}
	got, evictErr := m.c.Store.Evict(ctx, store.Eviction{Bytes: lack, Unused: unused, Keep: keep, Damaged: true})
	m.logRemoved("archives on demand, or damaged, removed for others", got, evictErr)
	_, err = m.lack(ctx, wanted)
	return err
}

func (m *Mirror) logRemoved(what string, got store.Collected, err error) {
	if len(got.Digests) > 0 {
		m.c.Logger.Info(what, "count", len(got.Digests), "bytes", got.Bytes)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		m.c.Logger.Error("archives not removed", "err", err)
	}
}

// DigestsOf returns what reports whether an archive is one of those.
func DigestsOf(releases []trust.Release) func(update.Digest) bool {
	of := map[update.Digest]bool{}
	for _, rel := range releases {
		of[rel.Digest()] = true
	}
	return func(d update.Digest) bool { return of[d] }
}

func (m *Mirror) lack(ctx context.Context, wanted []trust.Release) (int64, error) {
	return CheckRoom(ctx, m.c.Store, m.c.MaxBytes, wanted)
}

// CheckRoom returns how many bytes archives lack of the room on the disk, or below the cap, unless it is 0. Where
// they lack any, the error is disk.ErrNoSpace.
func CheckRoom(ctx context.Context, s *store.Store, limit int64, wanted []trust.Release) (int64, error) {
	room, err := s.Room(ctx, wanted)
	if err != nil {
		return 0, err
	}
	over := int64(0)
	if limit > 0 {
		over = room.Used + room.Need - limit
	}
	short := room.Need - room.Free
	switch {
	case short > 0:
		return max(short, over), fmt.Errorf("%w: %d bytes are needed for %d archives, and %d can be used; make room, or keep fewer updates",
			disk.ErrNoSpace, room.Need, len(wanted), max(room.Free, 0))
	case over > 0:
		return over, fmt.Errorf("%w: the store has %d bytes and would need %d more for %d archives, beyond its cap of %d; raise it, or keep fewer updates",
			disk.ErrNoSpace, room.Used, room.Need, len(wanted), limit)
	}
	return 0, nil
}
