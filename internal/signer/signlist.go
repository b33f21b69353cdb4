package signer

import (
	"context"
	"fmt"
	"slices"

	"github.com/openpowerquality/box-update-server/mirror/publish"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
)

// listing is what signList needs beside the list itself.
type listing struct {
	files publish.Files
	hold  bool            // keep the list waiting, even if it has enough signatures
	lost  []trust.Release // listed updates whose archives were lost, and are sent again with a list without a change
}

// signList shows the next list, asks, signs it and submits it.
func (x *session) signList(ctx context.Context, e *trust.TargetsEdit, l listing) (Change, error) {
	if err := x.holdable(l.hold); err != nil {
		return Change{}, err
	}
	c := x.describe(e.Plan())
	notes := slices.Concat(bringsBack(l.lost), x.notes(), x.clockNotes())
	c.Notes = append(c.Notes, notes...)
	if x.DryRun {
		c.State = stateDryRun
		return c, nil
	}
	if err := x.confirm(ctx, c, "Sign this?"); err != nil {
		return Change{}, err
	}
	p, err := x.signedList(ctx, e, len(l.lost) > 0)
	if err != nil {
		return Change{}, err
	}
	done, err := x.submit(ctx, p, l.files, l.hold)
	if err != nil {
		return Change{}, err
	}
	if err := x.forgetPublished(done); err != nil {
		return Change{}, err
	}
	if done.At, err = x.served(ctx, p, l.files); err != nil {
		return Change{}, err
	}
	done.Notes = append(done.Notes, notes...)
	return done, nil
}

// notes returns a note for each waiting list that a new one would replace.
func (x *session) notes() []string {
	var out []string
	for _, p := range x.waiting(trust.RoleTargets) {
		out = append(out, fmt.Sprintf("targets %d waits for signatures; the new list is without its changes and replaces it", p.Version()))
	}
	return out
}

// holdable refuses hold if the origin would publish the list with one signature. It runs before anything is signed.
func (x *session) holdable(hold bool) error {
	if _, remote := x.place.(*publish.Remote); !remote || !hold || x.base.Root().Threshold(trust.RoleTargets) > 1 {
		return nil
	}
	return status.WithHint(fmt.Errorf("targets %d can't wait there: %w: one signature is enough, so that a server publishes it", x.base.Version(trust.RoleTargets)+1, publish.ErrOrigin),
		"where a list needs a second signature before the root asks for it, sign with both keys at one computer: boxsign renew --list --release-key FILE --release-key FILE")
}
