package trust

import (
	"fmt"
	"slices"
	"time"

	"github.com/openpowerquality/box-update-server/signing"
)

// How long what is signed stays valid.
const (
	RootLife      = 365 * 24 * time.Hour
	TargetsLife   = 365 * 24 * time.Hour
	SnapshotLife  = 30 * 24 * time.Hour
	TimestampLife = 7 * 24 * time.Hour
)

// maxSkew is by how much two honest clocks may differ.
const maxSkew = 10 * time.Minute

// Clock says what time it is and how strictly expiry is judged. The reference time is the latest of
// Now, Built and the newest signed time of issue that was accepted: a box without a battery-backed
// clock starts in 1970 and is not fooled for longer than it has to be.
type Clock struct {
	Now   time.Time // of the system clock
	Built time.Time // the program's build date; zero: not known

	// AcceptStale is for how long past its expiry a timestamp or a snapshot is accepted all the same.
	// Root and targets are never accepted past theirs.
	AcceptStale time.Duration

	// Repair accepts everything that is expired. It is for programs that sign: they must read an
	// expired repository to renew it. A box never sets it.
	Repair bool
}

// reference returns the reference time, given the newest timestamps that were accepted, some of which
// may be nil.
func (c Clock) reference(accepted ...*online) time.Time {
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

// RolloutTime returns the time by which a box counts the steps of rollouts. A clock that is not behind what root and release
// signers signed, nor behind the program, is believed, and no online key then moves a step: one that is late only takes an
// update late. Without such a clock there is nothing better than the reference time.
func (r *Repository) RolloutTime(c Clock) time.Time {
	offline := slices.MaxFunc([]time.Time{c.Built, r.root.issued, r.targets.issued}, time.Time.Compare)
	if c.Now.Add(maxSkew).Before(offline) {
		return r.Reference(c)
	}
	return c.Now
}

// judge refuses what expired at the reference time.
func (c Clock) judge(f *file, reference time.Time) error {
	if c.Repair || !reference.After(f.expires.Add(c.grace(f.role))) {
		return nil
	}
	return fmt.Errorf("%s: %w at %s, and it is %s%s", f.name(), ErrExpired, formatTime(f.expires), formatTime(reference), c.hint(f.role, reference))
}

func (c Clock) grace(role Role) time.Duration {
	if role == RoleSnapshot || role == RoleTimestamp {
		return c.AcceptStale
	}
	return 0
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

// maxAbsence is how far a clock may be ahead of the newest time that is known to have been, before nobody
// renews by it without a person's word. A timestamp from a clock that is ahead by d keeps the boxes that saw it from all
// that is signed in the d-TimestampLife after the clock was set right, unless the online key is replaced: up
// to a week, nothing happens at all. A month is what a clock is wrong by where somebody set it by hand, and what
// an origin is rarely off for without a person who switches it on; one that was off for less comes back by itself.
const maxAbsence = 30 * 24 * time.Hour

// CheckJump refuses, with ErrJump, a time that is more than a month after everything that is known to have been: the times at
// which the files of r and the proposals of the change were signed, and those that the caller knows. Zero times are ignored.
func (r *Repository) CheckJump(at time.Time, c Change, known ...time.Time) error {
	known = append(known, r.root.issued, r.targets.issued, r.timestamp.issued)
	if c.Root != nil {
		known = append(known, c.Root.root.issued)
	}
	if c.Targets != nil {
		known = append(known, c.Targets.targets.issued)
	}
	newest := slices.MaxFunc(known, time.Time.Compare)
	if !at.After(newest.Add(maxAbsence)) {
		return nil
	}
	return fmt.Errorf("%w: this computer says %s, %d days after the newest time that is known here, %s", ErrJump, formatTime(at),
		at.Sub(newest)/(24*time.Hour), formatTime(newest))
}

// CheckClock refuses, with ErrAhead, a time before that of the published timestamp, but for what two honest
// clocks may differ by. Either the clock that says it is behind, or the one that the timestamp was signed by
// was ahead: by an origin with a wrong clock, or by a thief of the online key.
func (r *Repository) CheckClock(at time.Time) error {
	ts := r.timestamp
	if !at.Add(maxSkew).Before(ts.issued) {
		return nil
	}
	return fmt.Errorf("%w: this computer says %s, and timestamp %d was issued at %s", ErrAhead, formatTime(at), ts.version, formatTime(ts.issued))
}

// issueAt returns the time of issue of the timestamp that is to follow r, with that change, under root, signed by
// those signers: at, unless that is behind what they signed before. Then boxes that saw this would take the
// new one for expired, so that a key can't take back a time: ErrAhead. Two things go ahead all the same, since
// otherwise nobody could ever end it:
//
//   - The first timestamp of a key that takes over has the right time. What the old key said counts until a
//     root drops it, and no longer.
//   - A root that changes no more than other keys has the time that was signed before, so that boxes take it and everybody
//     goes on being told, until the online key is replaced. A time past the end of list or root is not said again: under it
//     nobody takes any set. Boxes remember a timestamp before they judge the list, so that some may know such a time; they
//     too go on once the online key is replaced.
func (r *Repository) issueAt(at time.Time, root *Root, tg *targets, by []signing.Signer) (time.Time, error) {
	err := r.CheckClock(at)
	if err == nil {
		return at, nil
	}
	before, signed := signers(root, r.timestamp.file), root.roles[RoleTimestamp]
	for _, s := range by {
		if signed.has(s.Public().ID()) && !slices.Contains(before, s.Public()) {
			return at, nil
		}
	}
	if root.version == r.root.version {
		return time.Time{}, err
	}
	if said := r.timestamp.issued; !said.After(root.expires) && !said.After(tg.expires) {
		return said, nil
	}
	return at, nil
}
