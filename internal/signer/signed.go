package signer

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/mirror/publish"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

// signedFile holds the list that was signed last and may not have been published: the same command,
// said again, goes on with it, so that there is one list with its number and what was sent counts.
const signedFile = "signed.targets.json"

// signedList returns the edited list, signed: the one that was signed before for the same change, else
// a new one, which is kept until it is published. same says that one without a change will do: it brings
// archives back.
func (x *session) signedList(ctx context.Context, e *trust.TargetsEdit, same bool) (*trust.Proposal, error) {
	// In a directory a list that waits may have more signatures by now than this one.
	_, remote := x.place.(*publish.Remote)
	if p := x.unpublished(); p != nil && (p.Complete() || remote) && sameChange(p.Plan(), e.Plan()) && (same || !e.Plan().Empty()) {
		return p, nil
	}
	by, err := x.signers(ctx, releasePart)
	if err != nil {
		return nil, err
	}
	p, err := e.Sign(ctx, by...)
	if err != nil {
		return nil, err
	}
	return p, x.keepSigned(p)
}

func (x *session) keepSigned(p *trust.Proposal) error {
	return x.ring.disk.WriteFile(x.ring.path(signedFile), p.Raw(), 0o600)
}

// forgetPublished forgets the list that was signed once it is published. One that waits for signatures is kept:
// when it has them, whoever has the archives says the same again to send them.
func (x *session) forgetPublished(c Change) error {
	if c.State == stateWaiting || c.State == stateArchives {
		return nil
	}
	return x.forgetSigned()
}

// unpublished returns the list that was signed and not published, nil where there is none that follows
// what is published now.
func (x *session) unpublished() *trust.Proposal {
	raw, err := disk.ReadFile(x.ring.path(signedFile), trust.MaxLength(trust.RoleTargets))
	if err != nil {
		return nil
	}
	p, err := x.base.CheckTargets(x.trusted.Ledger(), x.reserved, raw, x.at)
	if err != nil {
		return nil
	}
	return p
}

// sameChange reports whether two lists on one base change the same. Of changed conditions it is never
// sure.
func sameChange(a, b trust.Plan) bool {
	return len(a.Changed)+len(b.Changed) == 0 && a.From == b.From &&
		slices.EqualFunc(a.Added, b.Added, sameRelease) && slices.EqualFunc(a.Withdrawn, b.Withdrawn, sameRelease)
}

// sameRelease reports whether two lists say the same of an update but for the time of publishing.
func sameRelease(a, b trust.Release) bool {
	return a.Name() == b.Name() && a.Digest() == b.Digest() && a.Length() == b.Length() && a.Unpacked() == b.Unpacked() &&
		sameConditions(a.Conditions(), b.Conditions())
}

// forgetSigned forgets the list that was signed, because it is published or was overtaken.
func (x *session) forgetSigned() error {
	err := x.ring.disk.Remove(x.ring.path(signedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
