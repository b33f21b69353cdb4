package trust

import (
	"fmt"
	"time"
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
func (c Clock) reference(accepted ...*timestamp) time.Time {
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

// judge refuses what expired at the reference time.
func (c Clock) judge(name string, role Role, expires, reference time.Time) error {
	if c.Repair || !reference.After(expires.Add(c.grace(role))) {
		return nil
	}
	return fmt.Errorf("%s: %w at %s, and it is %s%s", name, ErrExpired, formatTime(expires), formatTime(reference), c.hint(role, reference))
}

func (c Clock) grace(role Role) time.Duration {
	if role == RoleSnapshot || role == RoleTimestamp {
		return c.AcceptStale
	}
	return 0
}

func (c Clock) hint(role Role, reference time.Time) string {
	if reference.After(c.Now) {
		return fmt.Sprintf(" by signed time, though this clock says %s: set the clock", formatTime(c.Now))
	}
	switch role {
	case RoleRoot:
		return "; if the clock is right, a root signer must renew the root"
	case RoleTargets:
		return "; if the clock is right, a release signer must publish a new list"
	}
	return "; if the clock is right, the origin is down or this mirror is behind"
}

// checkSkew refuses to sign at a time before what is signed already.
func checkSkew(at time.Time, base *timestamp) error {
	if base != nil && at.Add(maxSkew).Before(base.issued) {
		return fmt.Errorf("%w: this computer says %s, and timestamp %d was issued at %s: set the clock first", ErrClock, formatTime(at), base.version, formatTime(base.issued))
	}
	return nil
}
