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

// Result is the result of a sync, a repair, an import or an export.
type Result struct {
	Changed  bool  // another repository is served now
	Archives int   // that were brought
	Bytes    int64 // of them, without the blocks that were there already
}

// add adds the result of another attempt.
func (r *Result) add(more Result) {
	r.Changed = r.Changed || more.Changed
	r.Archives += more.Archives
	r.Bytes += more.Bytes
}

// Sync brings the copy up to date, and returns when it is complete and verified. It waits for another sync that is
// running. An import interrupts it, and then it begins again. After an error, the old repository is still served, unless
// only some archives are lost at the upstreams. The blocks that came are kept, and Freshness reports the error.
//
// The errors are those of store.Store.Refresh, Commit and Ingest, and of package fetch; disk.ErrNoSpace also if the store
// would exceed its limit.
func (m *Mirror) Sync(ctx context.Context) (all Result, err error) {
	err = m.lock.runPreemptible(ctx, func(ctx context.Context) error {
		began := m.c.Now()
		stop := m.watch()
		result, err := m.sync(ctx)
		stop()
		m.c.Ended()
		if err != nil {
			err = fmt.Errorf("sync: %w", err)
		}
		all.add(result)
		m.noteSync(ctx, began, result, err)
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
	m.noteNewest(newest)
	fresh, gone := m.lacking(newest)
	result, err := m.serveNewest(ctx, newest, fresh, gone)
	if len(gone) == 0 || ctx.Err() != nil {
		return result, err
	}
	// Last, because the wait for an archive that does not come may be long.
	repaired, repairErr := m.bringAll(ctx, gone, newest)
	result.add(repaired)
	return result, errors.Join(err, repairErr)
}

// lacking returns the archives of a repository that are not in place: those that are new, and those that are gone although
// the served repository lists them too.
func (m *Mirror) lacking(newest *trust.Repository) (fresh, gone []trust.Release) {
	served := m.c.Store.Repository()
	for _, rel := range m.c.Store.Missing(newest) {
		if served != nil && lists(served, rel) {
			gone = append(gone, rel)
		} else {
			fresh = append(fresh, rel)
		}
	}
	return fresh, gone
}

// lists reports whether a repository lists the archive of a release under its name.
func lists(repo *trust.Repository, rel trust.Release) bool {
	known, ok := repo.Release(rel.Name())
	return ok && known.Digest() == rel.Digest()
}

// serveNewest fetches the new archives of a repository, and makes it the served one. Archives that are gone do not delay
// this, because the served repository lacks them too.
func (m *Mirror) serveNewest(ctx context.Context, newest *trust.Repository, fresh, gone []trust.Release) (Result, error) {
	s := m.c.Store
	result, err := m.bringAll(ctx, fresh, newest)
	var l *lost
	var without []update.Digest
	if errors.As(err, &l) && ctx.Err() == nil && m.gains(s.Repository(), newest, l.archives) {
		// Serve what is intact. The error names the others, and the next sync asks for them again.
		without = l.archives
	} else if err != nil {
		return result, err
	}
	if newest.Same(s.Repository()) {
		return result, err
	}
	for _, rel := range gone {
		without = append(without, rel.Digest())
	}
	if commitErr := s.Commit(ctx, newest, without...); commitErr != nil {
		return result, errors.Join(err, commitErr)
	}
	result.Changed = true
	m.c.Logger.Info("new repository served", "snapshot", newest.Version(trust.RoleSnapshot),
		"updates", len(newest.Releases()), "fetched", result.Archives, "bytes", result.Bytes, "missing", len(without))
	return result, err
}

// refresh returns the newest repository of all upstreams, verified, or the current one if none has a newer one. If no
// upstream has an acceptable one, the error joins those of all.
func (m *Mirror) refresh(ctx context.Context) (*trust.Repository, error) {
	var accepted []*fetch.Upstream
	newest, err := m.c.Client.Newest(ctx, fetch.Search{
		Trusted: m.c.Store, Clock: m.clock(),
		Looked: func(u *fetch.Upstream, repo *trust.Repository, err error) {
			m.noteLook(u, repo, err)
			if err == nil {
				accepted = append(accepted, u)
			}
		},
	})
	if err != nil {
		return nil, err
	}
	for _, u := range accepted {
		m.noteBehind(u, u.State().Behind)
	}
	return newest, nil
}

// gains reports whether a repository is worth serving without the lost archives: it has another new update, withdraws
// one, or keeps the served one from expiring. If only the lost archives are new, boxes are better off with the served
// repository, which is whole.
func (m *Mirror) gains(served, newest *trust.Repository, lost []update.Digest) bool {
	for _, rel := range newest.Releases() {
		known := false
		if served != nil {
			_, known = served.Release(rel.Name())
		}
		if !known && !slices.Contains(lost, rel.Digest()) {
			return true
		}
	}
	if served == nil || served.RenewalDue(m.c.Now()) {
		return served != nil
	}
	for _, rel := range served.Releases() {
		if _, listed := newest.Release(rel.Name()); !listed {
			return true
		}
	}
	return false
}

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

// collectIfDue removes archives that are not kept, if Config.GCEvery has passed. The caller has the lock.
func (m *Mirror) collectIfDue(ctx context.Context) {
	if ctx.Err() == nil && m.c.Store.GCDue(m.c.GCEvery) {
		m.collect(ctx)
	}
}

func (m *Mirror) collect(ctx context.Context) {
	got, err := m.c.Store.GC(ctx, store.GC{})
	m.logRemoved("archives removed that are not kept any more", got)
	if err != nil && !errors.Is(err, context.Canceled) {
		m.c.Logger.Error("archives not removed", "err", err)
	}
}
