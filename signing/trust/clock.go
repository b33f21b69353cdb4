package trust

import (
	"fmt"
	"slices"
	"time"

	"github.com/openpowerquality/box-update-server/signing"
)

// maxSkew is the difference that is allowed between two honest clocks.
const maxSkew = 10 * time.Minute

// Clock gives the time and says how strictly expiry is judged. Expiry is compared with the reference time: the latest
// of Now, Built and the newest accepted time of issue. So a box without a battery-backed clock, which starts in 1970,
// still refuses metadata that expired before the newest that it has accepted.
type Clock struct {
	Now   time.Time // of the system clock
	Built time.Time // the program's build date; zero: not known

	// AcceptStale is how long after its expiry a timestamp or a snapshot is still accepted. Root and targets are
	// never accepted after theirs.
	AcceptStale time.Duration

	// AcceptExpired accepts all expired metadata. It is for programs that sign: they must read an expired repository to
	// renew it. A box never sets it.
	AcceptExpired bool
}

// reference returns the reference time. accepted are the newest accepted timestamps; nil ones are ignored.
func (c Clock) reference(accepted ...*file) time.Time {
	at := c.Now
	if c.Built.After(at) {
		at = c.Built
	}
	for _, t := range accepted {
		if t != nil && t.issued.After(at) {
			at = t.issued
		}
	}
	return at
}

// RolloutTime returns the time by which a box counts the steps of rollouts. It is c.Now, unless that is more than
// maxSkew before Built or before what the root or release signers signed last. No online key can then move a step,
// and a late clock only delays an update. With a clock that is further behind, it is the reference time: nothing
// better is known.
func (r *Repository) RolloutTime(c Clock) time.Time {
	offline := slices.MaxFunc([]time.Time{c.Built, r.Issued(RoleRoot), r.Issued(RoleTargets)}, time.Time.Compare)
	if c.Now.Add(maxSkew).Before(offline) {
		return r.Reference(c)
	}
	return c.Now
}

// judge refuses, with ErrExpired, a file that expired before the reference time. It allows for AcceptExpired and
// AcceptStale.
func (c Clock) judge(f *file, reference time.Time) error {
	until := f.expires
	if f.role == RoleSnapshot || f.role == RoleTimestamp {
		until = until.Add(c.AcceptStale)
	}
	if c.AcceptExpired || !reference.After(until) {
		return nil
	}
	return fmt.Errorf("%s: %w at %s, and it is %s%s", f.name(), ErrExpired, formatTime(f.expires), formatTime(reference), c.hint(f.role, reference))
}

func (c Clock) hint(role Role, reference time.Time) string {
	if reference.After(c.Now) {
		return fmt.Sprintf(" by signed time, though this clock says %s: set the clock; if it is right, the root signers must replace the online key", formatTime(c.Now))
	}
	switch role {
	case RoleRoot:
		return "; if the clock is right, a root signer must renew the root"
	case RoleTargets:
		return "; if the clock is right, a release signer must publish a new list"
	}
	return "; if the clock is right, the origin is down or this mirror is behind"
}

// maxAbsence is how far a clock may be ahead of the newest known time. Beyond it, nothing is renewed until a person
// confirms the clock. Suppose an origin signs a timestamp while its clock is ahead by d. The boxes that saw it refuse
// what is signed in the d-TimestampLife after the clock is set right, unless the online key is replaced; up to a week
// has no effect at all. A month is a likely error of a clock that was set by hand, and few origins are off for longer
// without a person who switches them on again. An origin that was off for less resumes by itself.
const maxAbsence = 30 * 24 * time.Hour

// CheckJump refuses, with ErrJump, a time that is more than a month after the newest known time. Known are the times
// at which the files of r and the proposals of the change were signed, and those in known. Zero times are ignored.
func (r *Repository) CheckJump(at time.Time, c Change, known ...time.Time) error {
	known = append(known, r.Issued(RoleRoot), r.Issued(RoleTargets), r.Issued(RoleTimestamp))
	if c.Root != nil {
		known = append(known, c.Root.file.issued)
	}
	if c.Targets != nil {
		known = append(known, c.Targets.file.issued)
	}
	newest := slices.MaxFunc(known, time.Time.Compare)
	if !at.After(newest.Add(maxAbsence)) {
		return nil
	}
	return fmt.Errorf("%w: this computer says %s, %d days after the newest time that is known here, %s", ErrJump, formatTime(at),
		at.Sub(newest)/(24*time.Hour), formatTime(newest))
}

// CheckClock refuses, with ErrAhead, a time that is before the issue of the published timestamp by more than maxSkew.
// Either this clock is behind, or the timestamp was signed by a clock that was ahead: by an origin with a wrong
// clock, or by a thief of the online key.
func (r *Repository) CheckClock(at time.Time) error {
	ts := r.files[RoleTimestamp]
	if !at.Add(maxSkew).Before(ts.issued) {
		return nil
	}
	return fmt.Errorf("%w: this computer says %s, and timestamp %d was issued at %s", ErrAhead, formatTime(at), ts.version, formatTime(ts.issued))
}

// issueAt returns the time of issue for the timestamp that follows r under root, with that list, signed by those
// signers. It is at, unless the same keys signed a later time before. Boxes that saw that time would judge the new
// timestamp expired, so a key can't take back a time: the error is ErrAhead. In two cases there is no error, because
// otherwise nobody could ever end this state:
//
//   - The first timestamp of a key that takes over gets the right time. The time that the old
//     key signed counts until a root drops that key.
//   - A new root that does not replace the online key repeats the time that was signed before.
//     Boxes accept the root, and CheckClock keeps reporting the error until the online key is
//     replaced. A time after the expiry of the list or of the root is not repeated, because no
//     box accepts a set under it; at is used. Boxes remember a timestamp before they judge the
//     list, so some may know such a time; they too recover once the online key is replaced.
func (r *Repository) issueAt(at time.Time, root *Root, list *file, by []signing.Signer) (time.Time, error) {
	err := r.CheckClock(at)
	if err == nil {
		return at, nil
	}
	before, signed := signers(root, r.files[RoleTimestamp]), root.roles[RoleTimestamp]
	for _, s := range by {
		if signed.has(s.Public()) && !slices.Contains(before, s.Public()) {
			return at, nil
		}
	}
	if root.version == r.Version(RoleRoot) {
		return time.Time{}, err
	}
	if said := r.Issued(RoleTimestamp); !said.After(root.expires) && !said.After(list.expires) {
		return said, nil
	}
	return at, nil
}
