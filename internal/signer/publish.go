package signer

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/openpowerquality/box-update-server/mirror/publish"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// served checks that an origin serves the archives that a list added, or that are in files, as they were signed. It
// returns their URLs. For a directory, or a list that is not published yet, it does nothing.
func (x *session) served(ctx context.Context, p *trust.Proposal, files publish.Files) ([]string, error) {
	remote, ok := x.place.(*publish.Remote)
	if !ok || p.Role() != trust.RoleTargets || x.base.Version(trust.RoleTargets) != p.Version() {
		return nil, nil // in a directory, or waiting
	}
	added := names(trust.Plan{Added: p.Plan().Added})
	var out []string
	for _, r := range p.Releases() {
		if _, at := files[r.Digest()]; !at && !slices.Contains(added, r.Name()) {
			continue
		}
		if err := remote.Check(ctx, r, publish.Ends); err != nil {
			return nil, fmt.Errorf("published, but not served as it was signed: %w", err)
		}
		out = append(out, remote.URL()+"update/"+r.Name().String())
	}
	return out, nil
}

// afterConflict is called when another signer published first; conflict is the error of the origin. It waits for
// a list that is still being sent, and shows what the other signer changed. It returns nil if the change mine may be
// made again on the new base: a person is asked, or the two changes have no name in common.
func (x *session) afterConflict(ctx context.Context, mine trust.Plan, conflict error) error {
	before := x.base
	if err := x.forgetSigned(); err != nil {
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
		return status.WithHint(conflict, "another signer's list is on its way there: wait until it is published, then run the command again")
	}
	return x.checkOverlap(before, names(mine))
}

// checkOverlap shows what another signer published since before. If nobody is asked (Confirm is nil) and that touched
// one of the names in mine, the error is trust.ErrConflict.
func (x *session) checkOverlap(before *trust.Repository, mine []update.Name) error {
	if x.base.Version(trust.RoleTargets) == before.Version(trust.RoleTargets) {
		return nil // the other signer gave up
	}
	theirs := touched(before, x.base)
	x.Warn(fmt.Sprintf("another signer published targets %d meanwhile: %s; yours is made on top of it",
		x.base.Version(trust.RoleTargets), strings.Join(describeTouched(theirs, before, x.base), ", ")))
	if x.Confirm != nil {
		return nil // Confirm shows the new list and asks
	}
	for _, n := range mine {
		if slices.Contains(theirs, n) {
			return status.WithHint(fmt.Errorf("%v: %w: another signer changed it too", n, trust.ErrConflict), "look at what is published with boxsign status, then run the command again")
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

// touched returns the names that only one of two repositories lists, or that they list with different conditions.
func touched(a, b *trust.Repository) []update.Name {
	var out []update.Name
	for _, r := range a.Releases() {
		if now, both := b.Release(r.Name()); !both || !sameConditions(r.Conditions(), now.Conditions()) {
			out = append(out, r.Name())
		}
	}
	for _, r := range b.Releases() {
		if _, both := a.Release(r.Name()); !both {
			out = append(out, r.Name())
		}
	}
	return out
}

func describeTouched(list []update.Name, before, now *trust.Repository) []string {
	if len(list) == 0 {
		return []string{"no update added, withdrawn or changed"}
	}
	out := make([]string, len(list))
	for i, n := range list {
		out[i] = "withdrew " + n.String()
		_, was := before.Release(n)
		if _, is := now.Release(n); is && was {
			out[i] = "changed " + n.String()
		} else if is {
			out[i] = "added " + n.String()
		}
	}
	return out
}
