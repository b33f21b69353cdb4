package mirror

import (
	"errors"
	"slices"
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
)

// ErrRing says that every upstream copies from this mirror: no way leads to an origin.
var ErrRing = errors.New("all upstreams copy from this mirror, so that nothing new can arrive")

// Freshness is how new a copy is, and how that is known. Times are UTC in whole seconds, and absent in
// JSON where there is none.
type Freshness struct {
	// Synced is false until the first repository is complete: until then nothing can be served.
	Synced bool `json:"synced"`

	Own      trust.Versions `json:"own"`
	Upstream trust.Versions `json:"upstream"` // the newest that any upstream showed

	// UpdatesBehind is how many updates the newest repository lists that the own one doesn't.
	// SecondsBehind counts from when the first repository was issued that the own one lacks, by its
	// signed time. Both are 0 where the own one is the newest that is known.
	UpdatesBehind int   `json:"updates_behind"`
	SecondsBehind int64 `json:"seconds_behind"`

	// Checked is when an upstream last showed a repository that was accepted: what is newer than that
	// can't be known. Complete is when the own one last was the newest of all upstreams.
	Checked  time.Time `json:"checked,omitzero"`
	Complete time.Time `json:"complete,omitzero"`

	// Error is why the last sync failed, or does not get on, and Reason the same in a word or two. Since is
	// when the first one did after which none went well.
	Error  string        `json:"error,omitempty"`
	Reason status.Reason `json:"reason,omitempty"`
	Since  time.Time     `json:"error_since,omitzero"`

	// Expires is when boxes begin to refuse what is served, and Expiring the role whose file expires
	// first.
	Expires  time.Time  `json:"expires,omitzero"`
	Expiring trust.Role `json:"expiring,omitempty"`
	Expired  bool       `json:"expired"`

	// Ring says that ErrRing holds.
	Ring bool `json:"ring,omitempty"`

	Upstreams []UpstreamFreshness `json:"upstreams"`
}

// UpstreamFreshness is what one upstream showed last.
type UpstreamFreshness struct {
	URL      string         `json:"url"`
	Versions trust.Versions `json:"versions"` // of the last repository that was accepted
	Checked  time.Time      `json:"checked,omitzero"`
	Behind   bool           `json:"behind"`            // it has an older one than another upstream, or than the mirror
	Loop     bool           `json:"loop,omitempty"`    // it copies from this mirror
	Slow     bool           `json:"slow,omitempty"`    // another one was much faster: it is asked last
	Damaged  bool           `json:"damaged,omitempty"` // several of its archives were wrong: it is asked last
	Error    string         `json:"error,omitempty"`   // why it was refused, or not reached, the last time
	Reason   status.Reason  `json:"reason,omitempty"`
}

// Public returns what anyone may see: without messages, which tell of what lies inside a network.
func (f Freshness) Public() Freshness {
	f.Error = ""
	f.Upstreams = slices.Clone(f.Upstreams)
	for i := range f.Upstreams {
		f.Upstreams[i].Error = ""
	}
	return f
}

// Freshness returns how new the copy is at that time.
func (m *Mirror) Freshness(at time.Time) Freshness {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.record.freshness(m.c.Store.Repository(), at)
}

func (r *record) freshness(own *trust.Repository, at time.Time) Freshness {
	f := Freshness{
		Synced: own != nil, Own: own.Versions(), Upstream: r.Newest,
		Checked: r.Checked, Complete: r.Complete, Error: r.Error, Reason: r.Reason, Since: r.Since,
		Upstreams: append([]UpstreamFreshness{}, r.Upstreams...),
	}
	f.Ring = len(f.Upstreams) > 0 && !slices.ContainsFunc(f.Upstreams, func(u UpstreamFreshness) bool { return !u.Loop })
	if f.Own != r.Newest && !r.BehindSince.IsZero() {
		f.UpdatesBehind = r.UpdatesBehind
		f.SecondsBehind = max(int64(at.Sub(r.BehindSince)/time.Second), 0)
	}
	if own == nil {
		return f
	}
	for _, role := range trust.Roles() {
		if e := own.Expires(role); f.Expires.IsZero() || e.Before(f.Expires) {
			f.Expires, f.Expiring = e, role
		}
	}
	f.Expired = own.Reference(trust.Clock{Now: at}).After(f.Expires)
	return f
}

// saw takes in the newest repository that the upstreams have.
func (m *Mirror) saw(newest *trust.Repository) {
	own, at := m.c.Store.Repository(), m.c.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	r := &m.record
	r.Newest = newest.Versions()
	if same(own, newest) {
		r.UpdatesBehind, r.BehindSince = 0, time.Time{}
		return
	}
	r.UpdatesBehind = lacks(own, newest)
	if r.BehindSince.IsZero() {
		r.BehindSince = newest.Issued(trust.RoleTimestamp)
	}
	if r.BehindSince.After(at) {
		r.BehindSince = seconds(at)
	}
	m.save()
}

// lacks counts the updates of newest that own, which may be nil, does not list.
func lacks(own, newest *trust.Repository) (count int) {
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
