package main

import (
	"context"
	"fmt"

	"github.com/openpowerquality/box-update-server/mirror/publish"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

// listing is what a new list comes with.
type listing struct {
	files publish.Files
	hold  bool            // it waits, even where there are enough signatures
	lost  []trust.Release // listed already, and to be brought back by a list without a change
}

// signList shows the next list, asks, signs it and submits it.
func (x *session) signList(ctx context.Context, e *trust.TargetsEdit, l listing) error {
	c := x.describe(e.Plan())
	notes := append(bringsBack(l.lost), x.notes()...)
	c.Notes = append(c.Notes, notes...)
	if x.o.dryRun {
		c.State = stateDryRun
		return show(x.s, x.o.json, c)
	}
	if err := x.confirm(ctx, c); err != nil {
		return err
	}
	p, err := x.signedList(ctx, e, len(l.lost) > 0)
	if err != nil {
		return err
	}
	done, err := x.submit(ctx, p, l.files, l.hold)
	if err != nil {
		return err
	}
	if err := x.settled(done); err != nil {
		return err
	}
	if done.At, err = x.served(ctx, p, l.files); err != nil {
		return err
	}
	done.Notes = append(done.Notes, notes...)
	return show(x.s, x.o.json, done)
}

// notes says which lists wait that a new one would replace.
func (x *session) notes() []string {
	var out []string
	for _, p := range x.waiting(trust.RoleTargets) {
		out = append(out, fmt.Sprintf("targets %d waits for signatures; the new list is without its changes and replaces it", p.Version()))
	}
	return out
}
