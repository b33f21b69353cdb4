package origin

import (
	"fmt"
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

// How long before root and list expire a warning begins, and becomes urgent: a person must sign.
const (
	warnBefore   = 60 * 24 * time.Hour
	urgentBefore = 14 * 24 * time.Hour
)

// overdue is how long after half of its life a timestamp may be renewed without a warning.
const overdue = 6 * time.Hour

// SubjectClock is the subject of a warning that the clock of the origin is off, or was.
const SubjectClock = "clock"

// known is what a process knows beside its directory. All of it is zero for a process that only reads the directory.
type known struct {
	built, checked time.Time // Config.Built and Config.ClockChecked
	since          time.Time // what the time must be by the running clock since the last signature
	failure        error     // of the last renewal
}

func (o *Origin) known() known {
	o.mu.Lock()
	defer o.mu.Unlock()
	k := known{built: o.c.Built, checked: o.c.ClockChecked, since: o.signedAt, failure: o.failure}
	if !k.since.IsZero() {
		k.since = k.since.Add(time.Since(o.signed)) // by a clock that nobody sets
	}
	return k
}

// Health returns what is wrong, or soon will be, at that time.
func (o *Origin) Health(at time.Time) (out []status.Warning) {
	repo := o.repository()
	if err := o.haveKey(repo.Root()); err != nil {
		out = append(out, status.Warning{Subject: "online key", Urgent: true, Text: err.Error(), Advice: hintFor(err)})
	}
	o.logLost(repo, at)
	return append(out, judge(o.c.Store, repo, at, o.known())...)
}

// ReadHealth returns what Health would, as far as the directory of a store shows it. It does not know which keys a
// running origin has, nor why that does not renew. Of the configuration it uses Store and the times.
func ReadHealth(c Config, at time.Time) []status.Warning {
	repo := c.Store.Repository()
	if repo == nil {
		return nil
	}
	return judge(c.Store, repo, at, known{built: c.Built, checked: c.ClockChecked})
}

// hintFor returns what to do about an error, as signers are told.
func hintFor(err error) string {
	wire, _ := status.WireOf(err)
	return wire.Hint
}

func judge(s *store.Store, repo *trust.Repository, at time.Time, k known) (out []status.Warning) {
	warn := func(subject string, urgent bool, text, advice string) {
		out = append(out, status.Warning{Subject: subject, Urgent: urgent, Text: text, Advice: advice})
	}
	for _, role := range []trust.Role{trust.RoleRoot, trust.RoleTargets} {
		advice := "publish something with boxsign, or sign the same list again: boxsign renew --list"
		if role == trust.RoleRoot {
			advice = "sign a new root: boxsign root renew"
		}
		if left := repo.Expires(role).Sub(at); left < warnBefore {
			out = append(out, status.Warning{Subject: string(role), Urgent: left < urgentBefore,
				Text: expiring(repo, role, left), Advice: advice, Expiring: string(role)})
		}
	}
	if err := repo.CheckClock(at); err != nil {
		warn(SubjectClock, true, err.Error(), hintFor(ErrAhead))
	} else if err := k.checkJump(repo, at, trust.Change{}); err != nil {
		warn(SubjectClock, true, err.Error(), hintFor(ErrJump))
	}
	if left := repo.LeftOut(); len(left) > 0 {
		warn("targets", false, fmt.Sprintf("%d entries of the list are left out, the first: %v", len(left), left[0]), "sign a new list with boxsign, which drops them")
	}
	out = append(out, s.WarnOfDamage()...)
	out = append(out, s.WarnOfLost(repo, at, "publish it again with boxsign")...)
	if text := k.overdue(repo, at); text != "" {
		out = append(out, status.Warning{Subject: "renewal", Urgent: true, Text: text,
			Advice: "run the server with online_key; its log says why it does not renew", Expiring: string(trust.RoleTimestamp)})
	}
	return out
}

// logLost logs missing archives if the first one is not the one that was logged last.
func (o *Origin) logLost(repo *trust.Repository, at time.Time) {
	var first update.Name
	lost := o.c.Store.Lost(repo, at)
	if len(lost) > 0 {
		first = lost[0].Name()
	}
	o.mu.Lock()
	told := o.lost
	o.lost = first
	o.mu.Unlock()
	if first != told && first != (update.Name{}) {
		o.c.Logger.Error("archives are missing", "count", len(lost), "first", first)
	}
}

func expiring(repo *trust.Repository, role trust.Role, left time.Duration) string {
	verb := "expires"
	if left < 0 {
		verb = "expired"
	}
	return fmt.Sprintf("%s %d %s at %s", role, repo.Version(role), verb, repo.Expires(role).Format(time.RFC3339))
}

// overdue returns a warning that timestamp or snapshot should have been renewed, "" if they should not.
func (k known) overdue(repo *trust.Repository, at time.Time) string {
	if !repo.RenewalDue(at.Add(-overdue)) {
		return ""
	}
	until := repo.Expires(trust.RoleTimestamp)
	if snapshot := repo.Expires(trust.RoleSnapshot); snapshot.Before(until) {
		until = snapshot
	}
	text := fmt.Sprintf("timestamp %d and snapshot %d were not renewed; from %s on boxes refuse them", repo.Version(trust.RoleTimestamp),
		repo.Version(trust.RoleSnapshot), until.Format(time.RFC3339))
	if k.failure != nil {
		text += ": " + k.failure.Error()
	}
	return text
}
