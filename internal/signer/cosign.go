package signer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/openpowerquality/box-update-server/mirror/publish"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// CosignOptions say which proposal Cosign and SignRoot sign, and whether they publish it.
type CosignOptions struct {
	ID   string // of the proposal, "" for the newest
	Hold bool   // keep it waiting, even if it has enough signatures
}

// chooseProposal returns the proposal to sign among those that wait, at least one: the one with the ID or, without an
// ID, the newest. Two newest proposals with the same number are refused without an ID, because a thief of one key may
// have added one of them.
func (o CosignOptions) chooseProposal(waiting []*trust.Proposal) (*trust.Proposal, error) {
	var out []*trust.Proposal
	newest := waiting[len(waiting)-1].Version()
	for _, p := range waiting {
		if o.ID == update.Sum(p.Raw()).String() || o.ID == "" && p.Version() == newest {
			out = append(out, p)
		}
	}
	switch {
	case len(out) == 0:
		return nil, status.WithHint(fmt.Errorf("--id %.64q: %w with that ID", o.ID, errNothingWaits), "boxsign status shows what waits; the ID changes with each signature")
	case len(out) > 1:
		return nil, status.WithHint(fmt.Errorf("%s %d: %d proposals with that number wait", out[0].Role(), newest, len(out)), "compare them with boxsign status, and choose one with --id")
	}
	return out[0], nil
}

// checkFiles refuses files that differ from what a list names. A signer who gives a file has checked that file, and
// must not sign another.
func checkFiles(p *trust.Proposal, given []trust.Addition) error {
	for _, a := range given {
		at := slices.IndexFunc(p.Releases(), func(r trust.Release) bool { return r.Name() == a.Name })
		if at < 0 {
			return fmt.Errorf("%v: targets %d does not list it", a.Name, p.Version())
		}
		if r := p.Releases()[at]; r.Digest() != a.Digest {
			return status.WithHint(fmt.Errorf("%v: %w: targets %d lists it with digest %v, but the file has %v", a.Name, trust.ErrMismatch, p.Version(), r.Digest(), a.Digest),
				"do not sign it: find out who made each of the two")
		}
	}
	return nil
}

// Cosign signs the list that waits for signatures. The files at paths are archives that the list names; those that the
// repository lacks are added from them. A file that is not what the list names is refused before anything is signed.
func (s *Signer) Cosign(ctx context.Context, o CosignOptions, paths ...string) (Change, error) {
	return s.cosign(ctx, o, trust.RoleTargets, paths)
}

// SignRoot signs the root that waits for signatures.
func (s *Signer) SignRoot(ctx context.Context, o CosignOptions) (Change, error) {
	return s.cosign(ctx, o, trust.RoleRoot, nil)
}

func (s *Signer) cosign(ctx context.Context, o CosignOptions, role trust.Role, paths []string) (Change, error) {
	g, additions, err := s.readAll(ctx, paths, true)
	if err != nil {
		return Change{}, withHint(err)
	}
	return inSession(ctx, s, !s.DryRun, func(x *session) (Change, error) {
		waiting := x.waiting(role)
		if p := x.loadSigned(); len(waiting) == 0 && role == trust.RoleTargets && p != nil && p.Complete() && !x.DryRun {
			if err := checkFiles(p, additions); err != nil {
				return Change{}, err
			}
			return x.submitCosigned(ctx, p, g.files, false) // an earlier run signed it and was interrupted
		}
		if len(waiting) == 0 && o.ID == "" && slices.ContainsFunc(x.base.Signers(role), x.ring.isOwn) {
			return x.reportUnchanged(ctx, role, fmt.Sprintf("%v: %s %d, which you signed, is published", errNothingWaits, role, x.base.Version(role)))
		}
		if len(waiting) == 0 {
			return Change{}, status.WithHint(fmt.Errorf("%w in the role %s", errNothingWaits, role), "boxsign status shows what waits; it may have been published already")
		}
		p, err := o.chooseProposal(waiting)
		if err != nil {
			return Change{}, err
		}
		if err := checkFiles(p, additions); err != nil {
			return Change{}, err
		}
		c := x.describe(p.Plan())
		c.setWaiting(p)
		if err := x.showContents(ctx, &c, p.Plan(), g); err != nil {
			return Change{}, err
		}
		if ok, err := x.approve(ctx, &c); !ok || err != nil {
			return c, err
		}
		return x.addSignature(ctx, p, g.files, o.Hold)
	})
}

func (x *session) addSignature(ctx context.Context, p *trust.Proposal, files publish.Files, hold bool) (Change, error) {
	by, err := x.signers(ctx, partOf(p.Role()))
	if err != nil {
		return Change{}, err
	}
	if p, err = p.Cosign(ctx, by...); err != nil {
		return Change{}, err
	}
	if p.Role() == trust.RoleTargets {
		if err := x.storeSigned(p); err != nil {
			return Change{}, err
		}
	}
	return x.submitCosigned(ctx, p, files, hold)
}

// submitCosigned is submitSigned for a cosigner, who need not have the archives: the origin has the signature, and
// whoever has the archives sends them.
func (x *session) submitCosigned(ctx context.Context, p *trust.Proposal, files publish.Files, hold bool) (Change, error) {
	done, err := x.submitSigned(ctx, p, files, hold)
	if x.remote == nil || !errors.Is(err, publish.ErrNoFile) {
		return done, err
	}
	done = x.describe(p.Plan())
	done.State = stateArchives
	done.Notes = append(done.Notes, "it has all signatures; to send the archives, run boxsign publish FILE again where they are")
	return done, nil
}
