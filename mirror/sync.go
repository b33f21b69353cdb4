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
// another sync that is under way, and makes way for an import, after which it begins anew. After an error other
// than that of lost archives, what was served before is still served. What was fetched is kept, and Freshness tells
// the error.
//
// The errors are those of store.Store.Refresh, Commit and Ingest, and of package fetch; disk.ErrNoSpace
// is also the one of a store that would exceed its cap.
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
	// Last, since one that does not come again may be waited for long.
	repaired, repairErr := m.bringAll(ctx, gone, newest)
	result.add(repaired)
	return result, errors.Join(err, repairErr)
}

// lacking returns what is not in place of a repository: what is new, and what is gone although the repository that is
// served lists it, too.
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

// serveNewest fetches what is new of a repository, and has it served. What is gone holds nothing back, whatever the
// reason: boxes lack it in the repository that is served now, too.
func (m *Mirror) serveNewest(ctx context.Context, newest *trust.Repository, fresh, gone []trust.Release) (Result, error) {
	s := m.c.Store
	result, err := m.bringAll(ctx, fresh, newest)
	var l *lost
	var without []update.Digest
	if errors.As(err, &l) && ctx.Err() == nil && m.gains(s.Repository(), newest, l.archives) {
		// What is whole is served. The error tells what is missing, and the next sync asks for it again.
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

// refresh returns the newest repository of all upstreams, verified; the current one where none has a
// newer one. The error is that of each upstream where none has one that is accepted.
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

// gains reports whether a repository is worth serving without the archives that are lost: it has an update more than
// the one that is served, withdraws one, or keeps what is served from expiring. Where the lost ones are all
// that is new, boxes are better off with what is served, which is whole.
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

// collectIfDue removes archives now and then. The caller has the lock.
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
