package origin

import (
	"fmt"
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// How long before root and list expire people are told, and when it is urgent: a person must sign.
const (
	warnBefore   = 60 * 24 * time.Hour
	urgentBefore = 14 * 24 * time.Hour
)

// overdue is how long past half of its life a timestamp may be before something must be wrong.
const overdue = 6 * time.Hour

// lookEvery is how often Health looks whether all archives are in place.
const lookEvery = 30 * time.Second

// SubjectClock is the subject of a warning that the clock of the origin is off, or was.
const SubjectClock = "clock"

// Warning is something that a person must see to.
type Warning struct {
	Subject string // root, targets, archives, renewal, online key, clock
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
	if err := repo.CheckClock(at); err != nil {
		out = append(out, Warning{SubjectClock, true, err.Error() + ": " + behindHint})
	} else if err := o.checkJump(repo, at, trust.Change{}); err != nil {
		out = append(out, Warning{SubjectClock, true, err.Error() + ": " + aheadHint})
	}
	if left := repo.LeftOut(); len(left) > 0 {
		out = append(out, Warning{"targets", false, fmt.Sprintf("%d entries of the list are left out, the first: %v: sign a new list with boxsign, which drops them", len(left), left[0])})
	}
	out = append(out, o.incomplete(repo, at)...)
	return append(out, o.renewal(repo, at)...)
}

// incomplete tells of archives that are listed and not in place. The repository is renewed all the same,
// so that boxes get the others.
func (o *Origin) incomplete(repo *trust.Repository, at time.Time) []Warning {
	missing := o.look(repo, at)
	if len(missing) == 0 {
		return nil
	}
	return []Warning{{"archives", true, fmt.Sprintf("%d that are listed can't be served, the first is %v: publish it again with boxsign",
		len(missing), missing[0].Name())}}
}

// look returns the releases whose archives are not in place, as they were at most lookEvery ago, and logs
// the first of them when it is another.
func (o *Origin) look(repo *trust.Repository, at time.Time) []trust.Release {
	o.mu.Lock()
	last := o.looked
	o.mu.Unlock()
	if since := at.Sub(last.at); last.repo == repo && since >= 0 && since < lookEvery {
		return last.missing
	}
	now := look{repo, at, o.c.Store.Missing(repo)}
	if first := now.first(); first != last.first() && first != (update.Name{}) {
		o.c.Logger.Error("archives are missing", "count", len(now.missing), "first", first)
	}
	o.mu.Lock()
	o.looked = now
	o.mu.Unlock()
	return now.missing
}

// look is which archives were not in place at some time.
type look struct {
	repo    *trust.Repository
	at      time.Time
	missing []trust.Release
}

// first returns the name of the first one, zero if there is none.
func (l look) first() update.Name {
	if len(l.missing) == 0 {
		return update.Name{}
	}
	return l.missing[0].Name()
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
