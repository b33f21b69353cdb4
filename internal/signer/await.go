package signer

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/openpowerquality/box-update-server/internal/pace"
	"github.com/openpowerquality/box-update-server/mirror/publish"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
)

// othersTime is how long a signer waits for the list that another signer is sending; askAgain is the pause between two
// looks at the origin.
const (
	othersTime = 5 * time.Minute
	askAgain   = time.Second
)

// othersList returns the version of the complete list that another signer is sending to the origin, 0
// for none. A new list with a higher number that lacks the changes of that one would revert them.
func (x *session) othersList() int64 {
	_, remote := x.place.(*publish.Remote)
	if !remote || x.reserved <= x.base.Version(trust.RoleTargets) {
		return 0
	}
	mine := x.waiting(trust.RoleTargets)
	if p := x.unpublished(); p != nil {
		mine = append(mine, p)
	}
	if slices.ContainsFunc(mine, func(p *trust.Proposal) bool { return p.Version() == x.reserved }) {
		return 0
	}
	return x.reserved
}

// awaitOthers waits until no other signer is sending a list, and reports whether it had to wait. After
// othersTime it gives up with trust.ErrConflict.
func (x *session) awaitOthers(ctx context.Context) (waited bool, err error) {
	until := time.Now().Add(othersTime)
	for {
		version := x.othersList()
		if version == 0 {
			return waited, nil
		}
		if !waited {
			x.Warn(fmt.Sprintf("another signer's list, targets %d, is on its way there: waiting for it", version))
		}
		waited = true
		if time.Now().After(until) {
			return true, status.WithHint(fmt.Errorf("targets %d: %w: another signer did not finish sending it in %v", version, trust.ErrConflict, othersTime),
				"ask them to say their command again; boxsign abort replaces a list that nobody finishes")
		}
		if pace.Sleep(ctx, askAgain) != nil {
			return true, context.Cause(ctx)
		}
		if err := x.refresh(ctx); err != nil {
			return true, err
		}
	}
}
