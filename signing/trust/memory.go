package trust

import (
	"bytes"
	"fmt"
)

// memory is what was accepted before and guards against going back. Each part is nil where nothing was
// accepted, or where a newer root took the keys away that had signed it: then its version numbers
// count no longer, which is the recovery from a thief who counted them up.
type memory struct {
	timestamp *online
	snapshot  *online
	targets   *targets
}

// under returns what of m a newer root still accepts. Timestamp and snapshot are forgotten together
// (TUF 1.0, 5.3.11).
func (m memory) under(root *Root) memory {
	online := (m.timestamp == nil || verify(root, m.timestamp.file) == nil) &&
		(m.snapshot == nil || verify(root, m.snapshot.file) == nil)
	if !online {
		m.timestamp, m.snapshot = nil, nil
	}
	if m.targets != nil && verify(root, m.targets.file) != nil {
		m.targets = nil
	}
	return m
}

// newest returns the newer ones of the parts of m and of other; of equals those of m.
func (m memory) newest(other memory) memory {
	if other.timestamp != nil && (m.timestamp == nil || other.timestamp.version > m.timestamp.version) {
		m.timestamp = other.timestamp
	}
	if other.snapshot != nil && (m.snapshot == nil || other.snapshot.version > m.snapshot.version) {
		m.snapshot = other.snapshot
	}
	if other.targets != nil && (m.targets == nil || other.targets.version > m.targets.version) {
		m.targets = other.targets
	}
	return m
}

// checkTimestamp refuses a timestamp that is older than the accepted one, or that names an older
// snapshot. Equal is accepted.
func (m memory) checkTimestamp(ts *online) error {
	if m.timestamp == nil {
		return nil
	}
	if ts.version < m.timestamp.version {
		return rollback(ts.name(), m.timestamp.version)
	}
	if ts.next.version < m.timestamp.next.version {
		return rollback(fmt.Sprintf("%s names %s", ts.name(), ts.next.name()), m.timestamp.next.version)
	}
	return nil
}

// checkSnapshot refuses a snapshot that names a targets file older than the accepted one.
func (m memory) checkSnapshot(sn *online) error {
	if m.snapshot != nil && sn.next.version < m.snapshot.next.version {
		return rollback(fmt.Sprintf("%s names %s", sn.name(), sn.next.name()), m.snapshot.next.version)
	}
	if m.targets != nil && sn.next.version < m.targets.version {
		return rollback(fmt.Sprintf("%s names %s", sn.name(), sn.next.name()), m.targets.version)
	}
	return nil
}

// checkTargets refuses another list under the version of the accepted one. More signatures are no
// other list.
func (m memory) checkTargets(tg *targets) error {
	if m.targets == nil || tg.version > m.targets.version {
		return nil
	}
	if tg.version < m.targets.version {
		return rollback(tg.name(), m.targets.version)
	}
	if !bytes.Equal(tg.signed, m.targets.signed) {
		return fmt.Errorf("%s: %w: another list with this number was accepted before; a release signer must publish one with a higher number", tg.name(), ErrFork)
	}
	return nil
}

func rollback(what string, had int64) error {
	return fmt.Errorf("%s: %w: version %d was; ask another mirror, this one is behind or hostile", what, ErrRollback, had)
}
