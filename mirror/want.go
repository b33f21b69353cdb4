package mirror

import (
	"context"
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

const (
	maxWanted     = 256 // archives that wait to be fetched on demand
	wantedAtOnce  = 2
	wantAgain     = 30 * time.Second // pause after a fetch that failed
	leastReturn   = 5 * time.Second
	longestReturn = 2 * time.Minute
	assumedRate   = 1 << 20 // bytes per second, while nothing was measured
)

// want is an archive that somebody asked for.
type want struct {
	open   bool      // it waits, or is being fetched
	failed time.Time // when its last fetch failed
}

// keptSet is what is kept of a repository.
type keptSet struct {
	repo    *trust.Repository
	digests map[update.Digest]bool
}

// Want returns what to answer a client that asks for an update of the catalog that is not in place: to come back after a
// time, or to go to the URL of the archive at an upstream. If both are zero, the mirror does not have the update.
//
// A lost update that is kept is fetched in any case, others as Config.OnDemand says. Run fetches an archive once, however
// many clients ask for it. Want does not wait.
func (m *Mirror) Want(u update.Update) (retryAfter time.Duration, redirect string) {
	repo := m.c.Store.Repository()
	if repo == nil {
		return leastReturn, ""
	}
	rel, ok := repo.Release(u.Name)
	switch {
	case !ok || rel.Digest() != u.Digest:
		return 0, ""
	case m.c.OnDemand == OnDemandFetch || m.keeps(repo, rel):
		return m.want(rel), ""
	case m.c.OnDemand == OnDemandRedirect:
		return m.redirect(rel)
	}
	return 0, ""
}

func (m *Mirror) keeps(repo *trust.Repository, rel trust.Release) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.kept.repo != repo {
		m.kept = keptSet{repo, map[update.Digest]bool{}}
		for _, r := range m.c.Store.Kept(repo) {
			m.kept.digests[r.Digest()] = true
		}
	}
	return m.kept.digests[rel.Digest()]
}

// redirect returns the URL of an archive at the first good upstream. If there is none, the archive is fetched: a client
// that is sent to a server that is down, or lacks the archive, would not know that it should come back here.
func (m *Mirror) redirect(rel trust.Release) (time.Duration, string) {
	if u := m.c.Client.First(); u != nil {
		return 0, u.String() + "/sha256/" + rel.Digest().String()
	}
	return m.want(rel), ""
}

// want makes Run fetch an archive, and returns when it may be there.
func (m *Mirror) want(rel trust.Release) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.wants[rel.Digest()]
	if w == nil {
		w = &want{}
	}
	at := m.c.Now()
	if since := at.Sub(w.failed); !w.open && since >= 0 && since < wantAgain {
		return wantAgain
	}
	if !w.open {
		select {
		case m.wanted <- rel:
			w.open = true
			m.wants[rel.Digest()] = w
		default:
			return longestReturn
		}
	}
	return m.estimateArrival(rel)
}

// estimateArrival returns how long an archive takes to arrive. The caller holds mu.
func (m *Mirror) estimateArrival(rel trust.Release) time.Duration {
	rate := m.rate
	if rate == 0 {
		rate = assumedRate
	}
	wait := time.Duration(float64(rel.Length()) / rate * float64(time.Second))
	return min(max(wait, leastReturn), longestReturn).Round(time.Second)
}

// serveWants fetches wanted archives until ctx ends.
func (m *Mirror) serveWants(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case rel := <-m.wanted:
			err := m.runOnDemand(ctx, rel.Digest(), func(ctx context.Context) error {
				if err := m.checkRoomOnDemand(ctx, rel); err != nil {
					return err
				}
				_, err := m.bring(ctx, rel, func() {})
				return err
			})
			m.noteFetched(rel, err)
			if err != nil && ctx.Err() == nil {
				m.c.Logger.Error("update on demand", "err", err)
			}
		}
	}
}

func (m *Mirror) noteFetched(rel trust.Release, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil || ended(err) {
		delete(m.wants, rel.Digest())
		return
	}
	m.forgetFailed()
	m.wants[rel.Digest()] = &want{failed: m.c.Now()}
}

// forgetFailed drops old failures. The caller holds mu.
func (m *Mirror) forgetFailed() {
	at := m.c.Now()
	for d, w := range m.wants {
		if !w.open && at.Sub(w.failed) >= wantAgain {
			delete(m.wants, d)
		}
	}
}
