package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

// Result is what a sync did.
type Result struct {
	Changed  bool  // another repository is served now
	Archives int   // that were fetched
	Bytes    int64 // of them that were not there already
}

// add takes in what a further try did.
func (r *Result) add(more Result) {
	r.Changed = r.Changed || more.Changed
	r.Archives += more.Archives
	r.Bytes += more.Bytes
}

// Sync brings the copy up to date, once, and returns when it is complete and verified. It waits for
// another sync that is under way, and makes way for an import, after which it begins anew. After an error
// what was served is still served, what was fetched is kept, and Freshness tells the error.
//
// The errors are those of store.Store.Refresh, Commit and Ingest, and of package fetch; store.ErrNoSpace
// is also the one of a store that would exceed its cap.
func (m *Mirror) Sync(ctx context.Context) (all Result, err error) {
	err = m.turn.givingWay(ctx, func(ctx context.Context) error {
		began := m.c.Now()
		stop := m.watch()
		result, err := m.sync(ctx)
		stop()
		m.c.Ended()
		if err != nil {
			err = fmt.Errorf("sync: %w", err)
		}
		all.add(result)
		m.ended(ctx, err)
		m.tell(ctx, began, result, err)
		m.collectIfDue(ctx)
		return err
	})
	return all, err
}

func (m *Mirror) sync(ctx context.Context) (Result, error) {
	newest, err := m.refresh(ctx)
	if err != nil {
		return Result{}, err
	}
	s := m.c.Store
	m.saw(newest)
	result, err := m.bringAll(ctx, biggestFirst(s.Missing(newest)))
	if err != nil || same(newest, s.Repository()) {
		return result, err
	}
	if err := s.Commit(ctx, newest); err != nil {
		return result, err
	}
	result.Changed = true
	m.c.Logger.Info("new repository served", "snapshot", newest.Version(trust.RoleSnapshot),
		"updates", len(newest.Releases()), "fetched", result.Archives, "bytes", result.Bytes)
	return result, nil
}

// refresh returns the newest repository of all upstreams, verified; the current one where none has a
// newer one. The error is that of each upstream where none has one that is accepted.
func (m *Mirror) refresh(ctx context.Context) (*trust.Repository, error) {
	var accepted []*fetch.Upstream
	newest, err := m.c.Client.Newest(ctx, fetch.Search{
		Trusted: m.c.Store, Clock: m.clock(),
		Looked: func(u *fetch.Upstream, repo *trust.Repository, err error) {
			m.looked(u, repo, err)
			if err == nil {
				accepted = append(accepted, u)
			}
		},
	})
	if err != nil {
		return nil, err
	}
	for _, u := range accepted {
		m.behind(u, u.State().Behind)
	}
	return newest, nil
}

// same reports whether both are one repository.
func same(a, b *trust.Repository) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a == b || string(a.Raw(trust.RoleTimestamp)) == string(b.Raw(trust.RoleTimestamp)) &&
		string(a.Raw(trust.RoleRoot)) == string(b.Raw(trust.RoleRoot))
}

// biggestFirst sorts archives so that the last ones to arrive are small, and leaves one of each digest.
func biggestFirst(missing []trust.Release) []trust.Release {
	seen := map[update.Digest]bool{}
	missing = slices.DeleteFunc(missing, func(rel trust.Release) bool {
		twice := seen[rel.Digest()]
		seen[rel.Digest()] = true
		return twice
	})
	slices.SortStableFunc(missing, func(a, b trust.Release) int {
		switch {
		case a.Length() > b.Length():
			return -1
		case a.Length() < b.Length():
			return 1
		}
		return 0
	})
	return missing
}

// checkRoom refuses archives that don't fit. What is not kept any more makes room first.
func (m *Mirror) checkRoom(ctx context.Context, wanted []trust.Release) error {
	err := m.fits(ctx, wanted)
	if !errors.Is(err, store.ErrNoSpace) {
		return err
	}
	m.collect(ctx)
	return m.fits(ctx, wanted)
}

func (m *Mirror) fits(ctx context.Context, wanted []trust.Release) error {
	return fits(ctx, m.c.Store, m.c.MaxBytes, wanted)
}

// fits refuses archives that the disk has no room for, or that exceed the cap, unless it is 0.
func fits(ctx context.Context, s *store.Store, limit int64, wanted []trust.Release) error {
	room, err := s.Room(ctx, wanted)
	if err != nil {
		return err
	}
	if room.Need > room.Free {
		return fmt.Errorf("%w: %d bytes are needed for %d archives, and %d can be used; make room, or keep fewer updates",
			store.ErrNoSpace, room.Need, len(wanted), max(room.Free, 0))
	}
	if limit > 0 && room.Used+room.Need > limit {
		return fmt.Errorf("%w: the store has %d bytes and would need %d more for %d archives, beyond its cap of %d; raise it, or keep fewer updates",
			store.ErrNoSpace, room.Used, room.Need, len(wanted), limit)
	}
	return nil
}

// collectIfDue removes archives now and then. It is the caller's turn.
func (m *Mirror) collectIfDue(ctx context.Context) {
	at := m.c.Now()
	if since := at.Sub(m.collected); since >= 0 && since < m.c.GCEvery || ctx.Err() != nil {
		return
	}
	m.collect(ctx)
}

func (m *Mirror) collect(ctx context.Context) {
	m.collected = m.c.Now()
	got, err := m.c.Store.GC(ctx, store.GC{})
	if len(got.Digests) > 0 {
		m.c.Logger.Info("archives removed that are not kept any more", "count", len(got.Digests), "bytes", got.Bytes)
	}
	if err != nil && ctx.Err() == nil {
		m.c.Logger.Error("archives not removed", "err", err)
	}
}
