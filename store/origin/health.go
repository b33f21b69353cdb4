package origin

import (
	"fmt"
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
)

// How long before root and list expire people are told, and when it is urgent: a person must sign.
const (
	warnBefore   = 60 * 24 * time.Hour
	urgentBefore = 14 * 24 * time.Hour
)

// overdue is how long past half of its life a timestamp may be before something must be wrong.
const overdue = 6 * time.Hour

// Warning is something that a person must see to.
type Warning struct {
	Subject string // root, targets, renewal, online key, clock
	Urgent  bool   // boxes will refuse to update soon, or publishing does not work
	Text    string // one line: what is wrong, since or until when, and what to do
}

// Health returns what is wrong, or soon will be, at that time. It is empty where all is well.
func (o *Origin) Health(at time.Time) []Warning {
	repo := o.repository()
	var out []Warning
	for _, role := range []trust.Role{trust.RoleRoot, trust.RoleTargets} {
		if left := repo.Expires(role).Sub(at); left < warnBefore {
			out = append(out, Warning{string(role), left < urgentBefore, expiring(repo, role, left)})
		}
	}
	if err := o.haveKey(repo.Root()); err != nil {
		out = append(out, Warning{"online key", true, err.Error()})
	}
	if issued := repo.Issued(trust.RoleTimestamp); at.Add(maxSkew).Before(issued) {
		out = append(out, Warning{"clock", true, fmt.Sprintf("the clock says %s, and timestamp %d was issued at %s: set the clock",
			at.UTC().Format(time.RFC3339), repo.Version(trust.RoleTimestamp), issued.Format(time.RFC3339))})
	}
	return append(out, o.renewal(repo, at)...)
}

func expiring(repo *trust.Repository, role trust.Role, left time.Duration) string {
	what := "publish a new list with boxsign"
	if role == trust.RoleRoot {
		what = "sign a new root with boxsign"
	}
	verb := "expires"
	if left < 0 {
		verb = "expired"
	}
	return fmt.Sprintf("%s %d %s at %s: %s", role, repo.Version(role), verb, repo.Expires(role).Format(time.RFC3339), what)
}

// renewal tells of a timestamp or a snapshot that should have been renewed.
func (o *Origin) renewal(repo *trust.Repository, at time.Time) []Warning {
	if !repo.RenewalDue(at.Add(-overdue)) {
		return nil
	}
	o.mu.Lock()
	failure := o.failure
	o.mu.Unlock()
	until := repo.Expires(trust.RoleTimestamp)
	if snapshot := repo.Expires(trust.RoleSnapshot); snapshot.Before(until) {
		until = snapshot
	}
	text := fmt.Sprintf("timestamp %d and snapshot %d were not renewed; from %s on boxes refuse them", repo.Version(trust.RoleTimestamp),
		repo.Version(trust.RoleSnapshot), until.Format(time.RFC3339))
	if failure != nil {
		text += ": " + failure.Error()
	}
	return []Warning{{"renewal", true, text}}
}
