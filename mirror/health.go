package mirror

import (
	"fmt"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/store"
)

// silentFor is how many intervals may pass without acceptable metadata from any upstream.
const silentFor = 3

// Health returns how new the copy is at that time, and what is wrong, or soon will be. Both speak of the same repository,
// also while a sync ends. The warnings have nothing that must not be public; Freshness and the log say more.
func (m *Mirror) Health(at time.Time) (status.Freshness, []status.Warning) {
	m.mu.Lock()
	own := m.c.Store.Repository()
	f, damage := m.freshness(own, at), m.record.damage
	m.mu.Unlock()
	return f, warningsOf(m.c.Store, own, f, damage, m.c.Interval, at)
}

// ReadHealth returns what Health would, as far as the directory of a store shows it. interval is that of
// Config; 0: five minutes.
func ReadHealth(s *store.Store, interval time.Duration, at time.Time) (status.Freshness, []status.Warning, error) {
	r, err := openRecord(s.Dir())
	if err != nil {
		return status.Freshness{}, nil, err
	}
	own := s.Repository()
	f := r.freshness(own, at)
	return f, warningsOf(s, own, f, r.damage, orDefault(interval, defaultInterval), at), nil
}

func warningsOf(s *store.Store, own *trust.Repository, f status.Freshness, damage error, interval time.Duration, at time.Time) (out []status.Warning) {
	warn := func(subject string, urgent bool, advice, format string, args ...any) {
		out = append(out, status.Warning{Subject: subject, Urgent: urgent, Advice: advice, Text: fmt.Sprintf(format, args...)})
	}
	const seeUpstream = "see to the upstream, or to the way there"
	if damage != nil {
		warn("record", false, "the next sync writes it again; check the disk", "the disk damaged %s, the record of earlier syncs", recordName)
	}
	out = append(out, s.WarnOfDamage()...)
	if !f.Synced {
		text := "not synced: nothing is served until the first sync is complete"
		if f.Error != "" {
			text += fmt.Sprintf("; no sync went well since %s: %s", f.Since.Format(time.RFC3339), describeReason(f))
		}
		warn("sync", true, seeUpstream, "%s", text)
		return out
	}
	if text := describeExpiry(f, own, at); text != "" {
		out = append(out, status.Warning{Subject: "expiry", Urgent: true, Text: text,
			Advice: "check the origin, and the network to it", Expiring: f.Expiring})
	}
	out = append(out, s.WarnOfLost(own, at, "damaged here or at the upstreams: they are fetched as soon as an upstream has them intact, or by box-update-server fsck")...)
	if text := describeSilence(f, interval, at); text != "" {
		warn("sync", false, seeUpstream, "%s", text)
	}
	if f.Ring {
		warn("upstream", false, "add the origin as an upstream", "%v", status.ErrRing)
	}
	for _, u := range f.Upstreams {
		if u.Loop && !f.Ring {
			warn("upstream", false, "name the origin as upstream, or a mirror that is nearer to it", "upstream %s copies from this mirror, so that it is of no use", u.URL)
		}
		if u.Slow {
			warn("upstream", false, seeUpstream, "upstream %s is much slower than another one, and asked last", u.URL)
		}
		if u.Damaged {
			warn("upstream", false, "run fsck there", "upstream %s has several damaged archives, and is asked last", u.URL)
		}
		if u.Error != "" && !strings.Contains(f.Error, u.Error) {
			warn("upstream", false, seeUpstream, "upstream %s is not used: %s", u.URL, u.Reason)
		}
	}
	if f.SecondsBehind > 0 {
		warn("behind", false, "wait for the next sync, or run box-update-server mirror --once", "%d updates and %v behind the upstream, snapshot %d of %d",
			f.UpdatesBehind, time.Duration(f.SecondsBehind)*time.Second, f.Own.Snapshot, f.Upstream.Snapshot)
	}
	return out
}

// describeExpiry returns a warning once three quarters of a file's life are over, otherwise "". Its signer should have
// renewed it half-way.
func describeExpiry(f status.Freshness, repo *trust.Repository, at time.Time) string {
	life := f.Expires.Sub(repo.Issued(trust.Role(f.Expiring)))
	left := f.Expires.Sub(at)
	if left > life/4 && !f.Expired {
		return ""
	}
	verb := "expires"
	if f.Expired {
		verb = "expired"
	}
	return fmt.Sprintf("%s %d %s at %s, and boxes refuse it from then on",
		f.Expiring, repo.Version(trust.Role(f.Expiring)), verb, f.Expires.Format(time.RFC3339))
}

// describeReason returns the reason why syncs fail, and the upstreams at fault.
func describeReason(f status.Freshness) string {
	text := string(f.Reason)
	for _, u := range f.Upstreams {
		if u.Error != "" {
			text += ", " + u.URL
		}
	}
	return text
}

// describeSilence returns a warning if syncs fail, or no upstream had acceptable metadata for long, otherwise "".
func describeSilence(f status.Freshness, interval time.Duration, at time.Time) string {
	long := at.Sub(f.Checked) > silentFor*interval
	switch {
	case f.Error != "":
		return fmt.Sprintf("no sync went well since %s; the last complete copy is served: %s", f.Since.Format(time.RFC3339), describeReason(f))
	case long && f.Checked.IsZero():
		return "no upstream was asked yet; the copy is served as it is"
	case long:
		return fmt.Sprintf("no upstream had acceptable metadata since %s; the copy is served as it is", f.Checked.Format(time.RFC3339))
	}
	return ""
}
