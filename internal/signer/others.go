package signer

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/internal/pace"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// othersTime is how long a signer waits for the list that another signer is sending; askAgain is the pause between two
// requests to the origin.
const (
	othersTime = 5 * time.Minute
	askAgain   = time.Second
)

// stagedList returns the version of the complete list whose archives are being sent to an origin, 0 for none.
func (x *session) stagedList() int64 {
	waits := func(p *trust.Proposal) bool { return p.Version() == x.reserved }
	if x.remote == nil || x.reserved <= x.base.Version(trust.RoleTargets) || slices.ContainsFunc(x.waiting(trust.RoleTargets), waits) {
		return 0
	}
	return x.reserved
}

// othersList returns the version of the complete list that another signer is sending to the origin, 0
// for none. A new list with a higher number that lacks the changes of that one would revert them.
func (x *session) othersList() int64 {
	if p := x.loadSigned(); p != nil && p.Version() == x.reserved {
		return 0
	}
	return x.stagedList()
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
			x.Warn(fmt.Sprintf("another signer is sending targets %d: waiting for it", version))
		}
		waited = true
		if time.Now().After(until) {
			return true, status.WithHint(fmt.Errorf("targets %d: %w: another signer did not finish sending it in %v", version, trust.ErrConflict, othersTime),
				"ask the other signer to run the command again; boxsign abort replaces a list that nobody finishes")
		}
		if pace.Sleep(ctx, askAgain) != nil {
			return true, context.Cause(ctx)
		}
		if err := x.refresh(ctx); err != nil {
			return true, err
		}
	}
}

// afterConflict is called when another signer published first; conflict is the error of the origin. It waits for
// a list that is still being sent, and shows what the other signer changed. It returns nil if the change mine may be
// made again on the new base: a person is asked, or the two changes have no name in common.
func (x *session) afterConflict(ctx context.Context, mine trust.Plan, conflict error) error {
	before := x.base
	if err := x.removeSigned(); err != nil {
		return err
	}
	if err := x.refresh(ctx); err != nil {
		return err
	}
	waited, err := x.awaitOthers(ctx)
	if err != nil {
		return err
	}
	if !waited && x.base.Version(trust.RoleTargets) == before.Version(trust.RoleTargets) {
		return status.WithHint(conflict, "another signer is sending a list: wait until it is published, then run the command again")
	}
	return x.checkOverlap(before, names(mine))
}

// checkOverlap shows what another signer published since before. If nobody is asked (Confirm is nil) and that touched
// one of the names in mine, the error is trust.ErrConflict.
func (x *session) checkOverlap(before *trust.Repository, mine []update.Name) error {
	if x.base.Version(trust.RoleTargets) == before.Version(trust.RoleTargets) {
		return nil // the other signer gave up
	}
	theirs := diffLists(before, x.base)
	var what []string
	for _, c := range theirs {
		what = append(what, c.verb+" "+c.name.String())
	}
	if len(what) == 0 {
		what = []string{"no update added, withdrawn or changed"}
	}
	x.Warn(fmt.Sprintf("another signer published targets %d meanwhile: %s; your list follows it", x.base.Version(trust.RoleTargets), strings.Join(what, ", ")))
	if x.Confirm != nil {
		return nil // Confirm shows the new list and asks
	}
	for _, c := range theirs {
		if slices.Contains(mine, c.name) {
			return status.WithHint(fmt.Errorf("%v: %w: another signer changed it too", c.name, trust.ErrConflict), "check what is published with boxsign status, then run the command again")
		}
	}
	return nil
}

func names(p trust.Plan) []update.Name {
	var out []update.Name
	for _, r := range slices.Concat(p.Added, p.Withdrawn) {
		out = append(out, r.Name())
	}
	for _, c := range p.Changed {
		out = append(out, c.To.Name())
	}
	return out
}

// listChange is a name that another signer added, withdrew or changed.
type listChange struct {
	verb string // in the past tense
	name update.Name
}

// diffLists returns the names that only one of two repositories lists, or that they list with different conditions.
func diffLists(before, now *trust.Repository) []listChange {
	var out []listChange
	for _, r := range before.Releases() {
		if n, listed := now.Release(r.Name()); !listed {
			out = append(out, listChange{"withdrew", r.Name()})
		} else if !r.Conditions().Equal(n.Conditions()) {
			out = append(out, listChange{"changed", r.Name()})
		}
	}
	for _, r := range now.Releases() {
		if _, listed := before.Release(r.Name()); !listed {
			out = append(out, listChange{"added", r.Name()})
		}
	}
	return out
}
