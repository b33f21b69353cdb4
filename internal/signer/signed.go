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

// signedFile holds the list that was signed last, until it is published. When an interrupted command is run again,
// it continues with this list rather than sign another one with the same version; what it sent already counts.
const signedFile = "signed.targets.json"

// signedList returns the edited list, signed. It reuses the list of signedFile if that makes the same change, else
// it signs a new one and writes it to signedFile. Without same, a list without a change is always signed anew.
func (x *session) signedList(ctx context.Context, e *trust.TargetsEdit, same bool) (*trust.Proposal, error) {
	// In a directory, the copy that waits may have more signatures by now than the one in signedFile.
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

// forgetPublished removes signedFile once its list is published. It keeps a list that waits for signatures or
// archives, because the same command, run again, sends the archives.
func (x *session) forgetPublished(c Change) error {
	if c.State == stateWaiting || c.State == stateArchives {
		return nil
	}
	return x.forgetSigned()
}

// unpublished returns the list of signedFile, nil if there is none or it doesn't follow what is published now.
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

// sameChange reports whether two lists on one base make the same change. It returns false for every change of
// conditions.
func sameChange(a, b trust.Plan) bool {
	return len(a.Changed)+len(b.Changed) == 0 && a.From == b.From &&
		slices.EqualFunc(a.Added, b.Added, sameRelease) && slices.EqualFunc(a.Withdrawn, b.Withdrawn, sameRelease)
}

// sameRelease reports whether two entries for an update differ at most in the time of publishing.
func sameRelease(a, b trust.Release) bool {
	return a.Name() == b.Name() && a.Digest() == b.Digest() && a.Length() == b.Length() && a.Unpacked() == b.Unpacked() &&
		sameConditions(a.Conditions(), b.Conditions())
}

// forgetSigned removes signedFile, if it exists: its list is published, or another list was published first.
func (x *session) forgetSigned() error {
	err := x.ring.disk.Remove(x.ring.path(signedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
