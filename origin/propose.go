package origin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

// State returns what is published and what waits.
func (o *Origin) State() State {
	s := State{Versions: o.repository().Versions(), Staged: []int64{}, Pending: []Pending{}}
	for _, p := range o.proposals() {
		switch {
		case p.staged():
			s.Staged = append(s.Staged, p.Version())
		default:
			s.Pending = append(s.Pending, Pending{p.Role(), p.Version(), p.id, p.since, needsOf(p.Proposal)})
		}
		if p.Role() == trust.RoleTargets {
			s.Reserved = max(s.Reserved, p.Version())
		}
	}
	for _, f := range o.unfit {
		if f.role == trust.RoleTargets {
			s.Reserved = max(s.Reserved, f.version) // its number may be signed
		}
	}
	return s
}

// PendingRaw returns the file of a proposal that lacks signatures, as signed so far. The error is ErrNotFound if there is
// none, also for a staged list.
func (o *Origin) PendingRaw(id update.Digest) ([]byte, error) {
	p, err := o.find(id)
	if err != nil {
		return nil, err
	}
	if p.staged() {
		return nil, fmt.Errorf("proposal %v: %w", id, ErrNotFound)
	}
	return p.Raw(), nil
}

// Propose accepts a root or a list as signed so far, and merges its signatures with those of a proposal with the same
// content. If that is published already, the status is StatusCommitted. After an error, unless it is one of the disk,
// nothing has changed. The caller may always propose again. Propose does not keep raw.
//
// The errors are those of trust.Repository.Check; *ConflictError if the proposal does not follow what is published, or
// does not replace another complete list that is staged; ErrNoKey; disk.ErrNoSpace.
func (o *Origin) Propose(ctx context.Context, role trust.Role, raw []byte) (Outcome, error) {
	if role != trust.RoleRoot && role != trust.RoleTargets {
		return Outcome{}, fmt.Errorf("propose: %w: expected a root or a list, got %q", trust.ErrMalformed, role)
	}
	// Refuse junk before others have to wait for changing. Even if the check fails, another call may have published
	// the proposal meanwhile.
	published := func() bool { return sameContent(raw, o.repository().Raw(role)) }
	if !published() {
		if _, err := o.check(role, o.reserved(), raw, o.c.Now()); err != nil && !published() {
			return Outcome{}, o.refused(err)
		}
	}
	if err := o.changing.Acquire(ctx, 1); err != nil {
		return Outcome{}, err
	}
	defer o.changing.Release(1)
	if published() {
		return o.alreadyPublished(ctx, role)
	}
	p, err := o.check(role, o.reserved(), bytes.Clone(raw), o.c.Now())
	if err != nil {
		return Outcome{}, o.refused(err)
	}
	return o.keepOrCommit(ctx, p)
}

func (o *Origin) reserved() int64 { return o.State().Reserved }

// refused adds to a conflict what stands in the way.
func (o *Origin) refused(err error) error {
	for _, conflict := range []error{trust.ErrConflict, trust.ErrRollback, trust.ErrStranded, trust.ErrSecondDigest} {
		if errors.Is(err, conflict) {
			s := o.State()
			e := &ConflictError{Current: s.Versions, Err: o.during("propose", err)}
			if n := len(s.Staged); n > 0 {
				e.Staged = s.Staged[n-1]
			}
			return e
		}
	}
	return o.during("propose", err)
}

// alreadyPublished returns the outcome of a proposal that is published already. The caller holds changing.
func (o *Origin) alreadyPublished(ctx context.Context, role trust.Role) (Outcome, error) {
	if err := o.finishCommit(ctx); err != nil {
		return Outcome{}, err
	}
	repo := o.repository()
	return Outcome{Status: StatusCommitted, ID: update.Sum(repo.Raw(role)), Current: repo.Versions()}, nil
}

// keepOrCommit keeps or commits a proposal that was checked. The caller holds changing.
func (o *Origin) keepOrCommit(ctx context.Context, checked *trust.Proposal) (Outcome, error) {
	p, err := o.mergeSignatures(newProposal(checked, o.c.Now(), o.c.Local))
	if err != nil {
		return Outcome{}, err
	}
	if p.complete && p.Role() == trust.RoleRoot && !o.c.Local { // a signer calls Publish
		return o.commitRoot(ctx, p)
	}
	if _, err := o.find(p.id); err == nil {
		return o.outcome(ctx, p)
	}
	if err := o.checkAdmissible(ctx, p); err != nil {
		return Outcome{}, err
	}
	if err := o.write(p); err != nil {
		return Outcome{}, o.during("propose", err)
	}
	o.tidy()
	return o.outcome(ctx, p)
}

// mergeSignatures merges a proposal with those that are kept and have the same content. A server leaves a staged one as
// it is, because signers know it by its ID.
func (o *Origin) mergeSignatures(p *proposal) (*proposal, error) {
	for _, q := range o.proposals() {
		if q.Role() != p.Role() || !sameContent(p.Raw(), q.Raw()) {
			continue
		}
		if q.staged() && !o.c.Local {
			return q, nil
		}
		merged, err := q.Merge(p.Proposal)
		if err != nil {
			return nil, o.refused(err)
		}
		p = newProposal(merged, q.since, o.c.Local)
	}
	return p, nil
}

// checkAdmissible refuses a proposal that would not be kept, or could not be committed.
func (o *Origin) checkAdmissible(ctx context.Context, p *proposal) error {
	all := append(o.proposals(), p)
	for _, q := range all {
		if q != p && q.staged() && p.Role() == trust.RoleTargets && q.Version() >= p.Version() && !sameContent(p.Raw(), q.Raw()) {
			return o.refused(fmt.Errorf("list %d: %w: list %d is complete and waits for its archives: wait for it, or replace it with list %d", p.Version(), trust.ErrConflict, q.Version(), q.Version()+1))
		}
	}
	if why := o.whySuperfluous(p, all); why != "" {
		return o.refused(fmt.Errorf("%s %d: %w: %s", p.Role(), p.Version(), trust.ErrConflict, why))
	}
	if !p.staged() {
		return nil
	}
	if err := o.haveKey(o.repository().Root()); err != nil {
		return o.during("propose", err)
	}
	return o.makeRoom(ctx, p)
}

// makeRoom refuses a list whose archives would not fit beside those of the other staged lists. Withdrawn archives make
// room. A list whose archives are all in place is never refused.
func (o *Origin) makeRoom(ctx context.Context, p *proposal) error {
	wanted := slices.Collect(maps.Values(p.archives))
	if !slices.ContainsFunc(wanted, func(r trust.Release) bool { return !o.c.Store.Has(r) }) {
		return nil
	}
	for _, q := range o.proposals() {
		wanted = slices.AppendSeq(wanted, maps.Values(q.archives))
	}
	err := o.c.Store.CheckRoom(ctx, wanted, 0)
	if errors.Is(err, disk.ErrNoSpace) && !o.c.Local {
		o.collect(ctx)
		_, err = o.c.Store.MakeRoom(ctx, wanted, 0, store.Eviction{})
	}
	if err != nil {
		return o.during("propose", err)
	}
	return nil
}

// outcome returns the outcome of a proposal that is kept.
func (o *Origin) outcome(ctx context.Context, p *proposal) (Outcome, error) {
	out := Outcome{Status: StatusPending, ID: p.id, Current: o.repository().Versions(), Needs: needsOf(p.Proposal)}
	if !p.staged() {
		return out, nil
	}
	out.Status, out.Needs = StatusStaged, nil
	for _, r := range p.Releases() {
		if o.c.Store.Has(r) || slices.ContainsFunc(out.Archives, func(a Archive) bool { return a.Digest == r.Digest() }) {
			continue
		}
		missing, known, err := o.missing(ctx, r)
		if err != nil {
			return Outcome{}, o.during("propose", err)
		}
		out.Archives = append(out.Archives, o.describeArchive(r, missing, known))
	}
	return out, nil
}
