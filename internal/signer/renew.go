package signer

import (
	"context"
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
)

// Renewal is what Renew did.
type Renewal struct {
	Snapshot  int64     `json:"snapshot"`
	Timestamp int64     `json:"timestamp"`
	Expires   time.Time `json:"expires"` // of the timestamp
}

// Text returns the renewal for people.
func (r Renewal) Text() string {
	return lines("snapshot", r.Snapshot, "timestamp", r.Timestamp, "expires", stamp(r.Expires))
}

// Renew signs a new timestamp with the online key and, when half of its time is over, a new snapshot.
func (s *Signer) Renew(ctx context.Context) (Renewal, error) {
	return inSession(ctx, s, !s.DryRun, func(x *session) (Renewal, error) {
		if err := x.current(); err != nil {
			return Renewal{}, err
		}
		if !x.DryRun {
			if err := x.publish(ctx, trust.Change{}, nil); err != nil {
				return Renewal{}, err
			}
		}
		return Renewal{x.base.Version(trust.RoleSnapshot), x.base.Version(trust.RoleTimestamp), x.base.Expires(trust.RoleTimestamp).UTC()}, nil
	})
}

// RenewList publishes the list again without a change, valid for another year.
func (s *Signer) RenewList(ctx context.Context) (Change, error) {
	return inSession(ctx, s, !s.DryRun, func(x *session) (Change, error) {
		e, err := x.editList(ListOptions{}, nil)
		if err != nil {
			return Change{}, err
		}
		return x.signList(ctx, e, listing{})
	})
}
