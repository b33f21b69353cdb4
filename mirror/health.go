package mirror

import (
	"fmt"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
)

// silentFor is how many intervals may pass without an upstream that was accepted.
const silentFor = 3

// Warning is something that a person should see to.
type Warning struct {
	Subject string // sync, upstream, expiry, behind
	Urgent  bool   // boxes refuse what is served, or soon will, or nothing is served
	Text    string // one line: what is wrong, since or until when, and what to do
}

// Health returns what is wrong, or soon will be, at that time, for anyone to see: Freshness and the log
// have more. It is empty where all is well.
func (m *Mirror) Health(at time.Time) []Warning {
	f := m.Freshness(at)
	repo := m.c.Store.Repository()
	var out []Warning
	if !f.Synced {
		text := "not synced: nothing is served before the first sync is complete"
		if f.Error != "" {
			text += fmt.Sprintf("; no sync went well since %s: %s", f.Since.Format(time.RFC3339), f.why())
		}
		return append(out, Warning{"sync", true, text})
	}
	if w, ok := expiry(f, repo, at); ok {
		out = append(out, w)
	}
	if missing := m.missing(repo, at); len(missing) > 0 {
		out = append(out, Warning{"archives", true, fmt.Sprintf("%d that are listed can't be served, the first is %v: damaged here, or at the upstreams; they are fetched as soon as one of these has them whole",
			len(missing), missing[0].Name())})
	}
	out = append(out, m.silence(f, at)...)
	if f.Ring {
		out = append(out, Warning{"upstream", false, "no upstream leads to an origin, each has from this mirror what it is asked for, so that nothing new can come: name the origin as an upstream"})
	}
	for _, u := range f.Upstreams {
		if u.Loop && !f.Ring {
			out = append(out, Warning{"upstream", false, fmt.Sprintf("upstream %s has from this mirror what it is asked for, and is of no use to it", u.URL)})
		}
		if u.Slow {
			out = append(out, Warning{"upstream", false, fmt.Sprintf("upstream %s is much slower than another one, and asked last: see to it, or to the way there", u.URL)})
		}
		if u.Damaged {
			out = append(out, Warning{"upstream", false, fmt.Sprintf("upstream %s has several archives that are damaged, and is asked last: run fsck there", u.URL)})
		}
		if u.Error != "" && !strings.Contains(f.Error, u.Error) {
			out = append(out, Warning{"upstream", false, fmt.Sprintf("upstream %s is not used: %s", u.URL, u.Reason)})
		}
	}
	if f.SecondsBehind > 0 {
		out = append(out, Warning{"behind", false, fmt.Sprintf("%d updates and %v behind the upstream, snapshot %d of %d",
			f.UpdatesBehind, time.Duration(f.SecondsBehind)*time.Second, f.Own.Snapshot, f.Upstream.Snapshot)})
	}
	return out
}

// lookEvery is how often Health looks whether all archives are in place.
const lookEvery = 30 * time.Second

// missing returns the releases that are kept and not in place, as they were at most lookEvery ago.
func (m *Mirror) missing(repo *trust.Repository, at time.Time) []trust.Release {
	m.mu.Lock()
	last := m.lookedAt
	m.mu.Unlock()
	if since := at.Sub(last.at); last.repo == repo && since >= 0 && since < lookEvery {
		return last.missing
	}
	now := look{repo, at, m.c.Store.Missing(repo)}
	m.mu.Lock()
	m.lookedAt = now
	m.mu.Unlock()
	return now.missing
}

// look is which archives were not in place at some time.
type look struct {
	repo    *trust.Repository
	at      time.Time
	missing []trust.Release
}

// NotReady says why the mirror should not be sent requests at that time, "" where it should.
func (m *Mirror) NotReady(at time.Time) string {
	f := m.Freshness(at)
	switch {
	case !f.Synced:
		return "not synced"
	case f.Expired:
		return fmt.Sprintf("%s expired at %s", f.Expiring, f.Expires.Format(time.RFC3339))
	}
	return ""
}

// expiry warns when three quarters of a file's life are over: half-way its signer was to renew it.
func expiry(f Freshness, repo *trust.Repository, at time.Time) (Warning, bool) {
	life := f.Expires.Sub(repo.Issued(f.Expiring))
	left := f.Expires.Sub(at)
	if left > life/4 && !f.Expired {
		return Warning{}, false
	}
	verb := "expires"
	if f.Expired {
		verb = "expired"
	}
	return Warning{"expiry", true, fmt.Sprintf("%s %d %s at %s, from when on boxes refuse it: see to the origin, or to the way there",
		f.Expiring, repo.Version(f.Expiring), verb, f.Expires.Format(time.RFC3339))}, true
}

// why returns the reason why no sync goes well, and the upstreams that are to blame.
func (f Freshness) why() string {
	text := string(f.Reason)
	for _, u := range f.Upstreams {
		if u.Error != "" {
			text += ", " + u.URL
		}
	}
	return text
}

// silence tells of syncs that fail, and of upstreams that were not heard of for long.
func (m *Mirror) silence(f Freshness, at time.Time) []Warning {
	long := at.Sub(f.Checked) > silentFor*m.c.Interval
	switch {
	case f.Error != "":
		return []Warning{{"sync", false, fmt.Sprintf("no sync went well since %s; what is there is served: %s", f.Since.Format(time.RFC3339), f.why())}}
	case long && f.Checked.IsZero():
		return []Warning{{"sync", false, "no upstream was asked yet; what is there is served"}}
	case long:
		return []Warning{{"sync", false, fmt.Sprintf("no upstream was heard of since %s; what is there is served", f.Checked.Format(time.RFC3339))}}
	}
	return nil
}
