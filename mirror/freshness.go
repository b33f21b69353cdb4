package mirror

import (
	"slices"
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
)

// Freshness returns how new the copy is at that time.
func (m *Mirror) Freshness(at time.Time) status.Freshness {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.freshness(m.c.Store.Repository(), at)
}

// freshness returns how new a copy with that repository is. The caller holds mu.
func (m *Mirror) freshness(own *trust.Repository, at time.Time) status.Freshness {
	f := m.record.freshness(own, at)
	f.Succeeded, f.Failed, f.History = m.succeeded, m.failed, slices.Clone(m.history)
	received := map[string]int64{}
	for _, u := range m.c.Client.Upstreams() {
		received[u.String()] += u.Received()
	}
	for i := range f.Upstreams {
		f.Upstreams[i].Received = received[f.Upstreams[i].URL]
	}
	return f
}

func (r *record) freshness(own *trust.Repository, at time.Time) status.Freshness {
	f := status.Freshness{
		Synced: own != nil, Own: own.Versions(), Upstream: r.Newest,
		Checked: r.Checked, Complete: r.Complete, Error: r.Error, Reason: r.Reason, Since: r.Since,
		Upstreams: append([]status.Upstream{}, r.Upstreams...),
	}
	f.Ring = len(f.Upstreams) > 0 && !slices.ContainsFunc(f.Upstreams, func(u status.Upstream) bool { return !u.Loop })
	if f.Own != r.Newest && !r.BehindSince.IsZero() {
		f.UpdatesBehind = r.UpdatesBehind
		f.SecondsBehind = max(int64(at.Sub(r.BehindSince)/time.Second), 0)
	}
	if own == nil {
		return f
	}
	for _, role := range trust.Roles() {
		if e := own.Expires(role); f.Expires.IsZero() || e.Before(f.Expires) {
			f.Expires, f.Expiring = e, string(role)
		}
	}
	f.Expired = own.Reference(trust.Clock{Now: at}).After(f.Expires)
	return f
}

// noteNewest records the newest repository that the upstreams have.
func (m *Mirror) noteNewest(newest *trust.Repository) {
	own, at := m.c.Store.Repository(), m.c.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	r := &m.record
	r.Newest = newest.Versions()
	if newest.Same(own) {
		r.UpdatesBehind, r.BehindSince = 0, time.Time{}
		return
	}
	r.UpdatesBehind = countNew(own, newest)
	if r.BehindSince.IsZero() {
		r.BehindSince = newest.Issued(trust.RoleTimestamp)
	}
	if r.BehindSince.After(at) {
		r.BehindSince = seconds(at)
	}
	m.save()
}

// countNew counts the updates of newest that own, which may be nil, does not list.
func countNew(own, newest *trust.Repository) (count int) {
	for _, rel := range newest.Releases() {
		if own == nil {
			count++
		} else if _, ok := own.Release(rel.Name()); !ok {
			count++
		}
	}
	return count
}

func seconds(at time.Time) time.Time { return at.UTC().Truncate(time.Second) }
