package trust

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/update"
)

// Proposal is a next root or a next list that was checked against the repository that it follows. At least one key of
// its role signed it, and each of its signatures is valid. Only this package makes one. It is immutable.
type Proposal struct {
	base  *Repository
	file  *file
	root  *Root // the file as a root; nil for a list
	plan  Plan
	needs []Need

	// The arguments of the check, for checking again with more signatures.
	known    *Ledger
	reserved int64
	at       time.Time
}

// Need is a threshold that a proposal must meet.
type Need struct {
	Root      int64 // the root that asks
	Role      Role
	Threshold int
	Have      []keys.Public // those that signed
	Missing   []keys.Public // those that could still sign
}

// Met reports whether enough keys signed.
func (n Need) Met() bool { return len(n.Have) >= n.Threshold }

func needOf(r *Root, f *file) Need {
	have := signers(r, f)
	return Need{r.version, f.role, r.Threshold(f.role), have, without(r.roles[f.role].Keys, have)}
}

// Check is CheckRoot for RoleRoot, and CheckTargets for RoleTargets.
func (r *Repository) Check(role Role, known *Ledger, reserved int64, raw []byte, at time.Time) (*Proposal, error) {
	if role == RoleRoot {
		return r.CheckRoot(raw, at)
	}
	return r.CheckTargets(known, reserved, raw, at)
}

// CheckTargets checks raw, a list from a signer that is to follow r. known and reserved are as for EditTargets; at is
// the present time. The errors are ErrMalformed, ErrConflict, ErrExpired, ErrClock, ErrSecondDigest, and ErrThreshold
// if a signature is invalid or none is there.
func (r *Repository) CheckTargets(known *Ledger, reserved int64, raw []byte, at time.Time) (*Proposal, error) {
	root, now := r.Root(), r.Version(RoleTargets)
	list, err := openFile(root, RoleTargets, raw, 1)
	if err != nil {
		return nil, err
	}
	if next := max(now, reserved) + 1; list.version <= now || list.version > next {
		return nil, fmt.Errorf("%s: %w: published is %d, expected %d", list.name(), ErrConflict, now, next)
	}
	if err := checkProposed(list, at, root); err != nil {
		return nil, err
	}
	if err := errors.Join(list.impossible...); err != nil {
		return nil, fmt.Errorf("%s: %w: %w; sign a list without it", list.name(), ErrMalformed, err)
	}
	known = known.after(r)
	if _, err := known.add(list.releases); err != nil {
		return nil, fmt.Errorf("%s: %w", list.name(), err)
	}
	if err := r.checkDetached(list.releases); err != nil {
		return nil, fmt.Errorf("%s: %w", list.name(), err)
	}
	p := &Proposal{base: r, file: list, known: known, reserved: reserved, at: at}
	p.needs = []Need{needOf(root, list)}
	p.plan = planTargets(known, r.byName, byName(list.releases))
	p.plan.From, p.plan.To = now, list.version
	p.plan.FromExpires, p.plan.ToExpires = r.Expires(RoleTargets), list.expires
	return p, nil
}

func byName(releases []Release) map[update.Name]Release {
	out := make(map[update.Name]Release, len(releases))
	for _, r := range releases {
		out[r.Name()] = r
	}
	return out
}

// checkDetached verifies the detached signatures that r doesn't have, and requires at least one for each new update.
func (r *Repository) checkDetached(releases []Release) error {
	rank := r.Root().ranks(RoleTargets)
	var news []Release
	for _, rel := range releases {
		old, had := r.byName[rel.Name()]
		if had && slices.Equal(old.sigs, rel.sigs) && old.Digest() == rel.Digest() {
			continue
		}
		if !slices.ContainsFunc(rel.sigs, func(s KeySignature) bool { return rank[s.Key] < 0 }) {
			return fmt.Errorf("%v: %w: expected a detached signature by one of the keys %s", rel.Name(), ErrThreshold, fingerprints(r.Root().roles[RoleTargets].Keys))
		}
		news = append(news, rel)
	}
	if err := verifyDetached(r.Root(), news); err != nil {
		return fmt.Errorf("%w: %w", ErrThreshold, err)
	}
	return nil
}

// CheckRoot checks raw, a root from a signer that is to follow the root of r. The errors are those of CheckTargets,
// and ErrStranded if it doesn't accept the present files of r: to replace a key, add the new one, publish with it,
// and only then remove the old one.
func (r *Repository) CheckRoot(raw []byte, at time.Time) (*Proposal, error) {
	now := r.Root()
	next, err := parseRoot(now, raw)
	if err != nil {
		return nil, err
	}
	if next.version != now.version+1 {
		return nil, fmt.Errorf("%s: %w: expected root %d", next.name(), ErrConflict, now.version+1)
	}
	if err := checkProposed(next.file, at, now, next); err != nil {
		return nil, err
	}
	for _, role := range readingOrder() {
		if err := next.verify(r.files[role]); err != nil {
			return nil, fmt.Errorf("%s: %w: %w", next.name(), ErrStranded, err)
		}
	}
	return &Proposal{
		base: r, file: next.file, root: next, at: at, plan: planRoot(now, next),
		needs: []Need{needOf(now, next.file), needOf(next, next.file)},
	}, nil
}

// checkProposed refuses a file that is expired, was issued in the future, has no signature, or has one that is valid
// under none of the roots.
func checkProposed(f *file, at time.Time, roots ...*Root) error {
	if at.After(f.expires) {
		return fmt.Errorf("%s: %w at %s", f.name(), ErrExpired, formatTime(f.expires))
	}
	if f.issued.After(at.Add(maxSkew)) {
		return fmt.Errorf("%s: %w: it was issued at %s, and here it is %s", f.name(), ErrClock, formatTime(f.issued), formatTime(at))
	}
	good := map[keys.ID]bool{}
	for _, root := range roots {
		for _, k := range signers(root, f) {
			good[k.ID()] = true
		}
	}
	if len(good) == 0 || len(good) < len(f.signatures) {
		return fmt.Errorf("%s: %w: expected at least one signature, and none that does not fit: %s", f.name(), ErrThreshold, describeSigners(roots[len(roots)-1], f))
	}
	return nil
}

// Role returns RoleRoot or RoleTargets.
func (p *Proposal) Role() Role { return p.file.role }

// Plan says what the proposal changes.
func (p *Proposal) Plan() Plan { return p.plan }

// Version returns the version that is proposed.
func (p *Proposal) Version() int64 { return p.file.version }

// Raw returns the file as signed so far. The caller must not change it.
func (p *Proposal) Raw() []byte { return p.file.raw }

// Releases returns what a list holds, nil for a root.
func (p *Proposal) Releases() []Release { return slices.Clone(p.file.releases) }

// withSignatures makes the proposal with other signatures and repeats the check.
func (p *Proposal) withSignatures(sigs []fileSignature) (*Proposal, error) {
	raw, err := join(sigs, p.file.signed)
	if err != nil {
		return nil, err
	}
	return p.base.Check(p.Role(), p.known, p.reserved, raw, p.at)
}

// Needs returns the thresholds to meet: one for a list; for a root two, that of the present root and its own.
func (p *Proposal) Needs() []Need { return slices.Clone(p.needs) }

// Complete reports whether every threshold is met.
func (p *Proposal) Complete() bool {
	return !slices.ContainsFunc(p.needs, func(n Need) bool { return !n.Met() })
}

// ready refuses a proposal that can't become part of the repository that follows r: ErrConflict if it has another
// base, ErrThreshold if signatures are missing.
func (p *Proposal) ready(r *Repository, role Role) error {
	if p.Role() != role {
		return fmt.Errorf("expected a proposal of %s, got one of %s", role, p.Role())
	}
	for _, role := range []Role{RoleRoot, RoleTargets} {
		if was, is := p.base.Version(role), r.Version(role); was != is {
			return fmt.Errorf("%s: %w: it follows %s %d, and published is %s %d", p.file.name(), ErrConflict, role, was, role, is)
		}
	}
	for _, n := range p.needs {
		if !n.Met() {
			return fmt.Errorf("%s: %w: root %d wants %d, it has %d; keys that can sign: %s", p.file.name(), ErrThreshold,
				n.Root, n.Threshold, len(n.Have), fingerprints(n.Missing))
		}
	}
	return nil
}

// Cosign adds the signatures of those signers whose key has the role; the error is ErrKey if none has. For a list, a
// cosigner also makes detached signatures for updates that have fewer than the threshold. They are kept in its
// signature entry, because the list itself must stay as the others signed it, and the next list takes them in.
func (p *Proposal) Cosign(ctx context.Context, by ...signing.Signer) (*Proposal, error) {
	root, sigs := p.base.Root(), p.file.signatures
	if p.Role() == RoleRoot {
		sigs, err := signBoth(ctx, root, p.root, by)
		if err != nil {
			return nil, err
		}
		return p.withSignatures(sigs)
	}
	by, err := root.choose(RoleTargets, by)
	if err != nil {
		return nil, err
	}
	for _, s := range by {
		if slices.Contains(p.needs[0].Have, s.Public()) {
			continue
		}
		updates, err := p.detached(ctx, s)
		if err != nil {
			return nil, err
		}
		if sigs, err = sign(ctx, root, RoleTargets, p.file.signed, sigs, []signing.Signer{s}, updates); err != nil {
			return nil, err
		}
	}
	return p.withSignatures(sigs)
}

// detached returns the field updates for the signature entry of s, nil if no detached signature is needed.
func (p *Proposal) detached(ctx context.Context, s signing.Signer) (json.RawMessage, error) {
	updates := map[update.Name]signing.Signature{}
	for _, r := range p.file.releases {
		if _, has := r.Signature(s.Public().ID()); has || len(r.sigs) >= p.base.Root().Threshold(RoleTargets) {
			continue
		}
		sig, err := signing.Sign(ctx, s, r.Digest(), r.Name())
		if err != nil {
			return nil, err
		}
		updates[r.Name()] = sig
	}
	if len(updates) == 0 {
		return nil, nil
	}
	return json.Marshal(updates) // ascending by key, as canonical JSON is
}

// Merge adds the signatures of q, which must be the same proposal with other signatures; otherwise the error is
// ErrConflict.
func (p *Proposal) Merge(q *Proposal) (*Proposal, error) {
	a, b := p.file, q.file
	if a.role != b.role || a.version != b.version {
		return nil, fmt.Errorf("%s: %w: expected %s", b.name(), ErrConflict, a.name())
	}
	if !bytes.Equal(a.signed, b.signed) {
		return nil, fmt.Errorf("%s: %w: its content is another", b.name(), ErrConflict)
	}
	sigs := slices.Clone(a.signatures)
	for _, s := range b.signatures {
		if !slices.ContainsFunc(sigs, func(t fileSignature) bool { return t.Key == s.Key }) {
			sigs = append(sigs, s)
		}
	}
	return p.withSignatures(sigs)
}

// Plan says what a proposal changes, for a person to see before signing.
type Plan struct {
	Role     Role // RoleRoot or RoleTargets
	From, To int64

	FromExpires, ToExpires time.Time

	// Targets only; each ascends as the catalog does.
	Added     []Release
	Withdrawn []Release
	Changed   []ChangedRelease
	Rebound   []Binding // the names that had another digest

	// Root only: the roles that change, in the order of Roles.
	Holders []ChangedHolder
}

// ChangedRelease is an update whose conditions change.
type ChangedRelease struct{ From, To Release }

// ChangedHolder is a role whose keys or threshold change.
type ChangedHolder struct {
	Role                       Role
	AddedKeys, RemovedKeys     []keys.Public
	FromThreshold, ToThreshold int
}

// Empty reports whether the plan changes nothing but version and expiry.
func (p Plan) Empty() bool {
	return len(p.Added)+len(p.Withdrawn)+len(p.Changed)+len(p.Rebound)+len(p.Holders) == 0
}

func planTargets(known *Ledger, from, to map[update.Name]Release) Plan {
	p := Plan{Role: RoleTargets}
	for name, r := range to {
		old, ok := from[name]
		was, had := known.Digest(name)
		if ok { // what is published counts, not what the ledger has
			was, had = old.Digest(), true
		}
		if had && was != r.Digest() {
			p.Rebound = append(p.Rebound, Binding{name, was, r.Digest()})
		}
		switch {
		case !ok:
			p.Added = append(p.Added, r)
		case !old.published.Equal(r.published) || !old.conditions.Equal(r.conditions):
			p.Changed = append(p.Changed, ChangedRelease{old, r})
		}
	}
	for name, r := range from {
		if _, ok := to[name]; !ok {
			p.Withdrawn = append(p.Withdrawn, r)
		}
	}
	slices.SortFunc(p.Added, compareReleases)
	slices.SortFunc(p.Withdrawn, compareReleases)
	slices.SortFunc(p.Changed, func(a, b ChangedRelease) int { return compareReleases(a.To, b.To) })
	slices.SortFunc(p.Rebound, func(a, b Binding) int { return a.Name.CompareByVersion(b.Name) })
	return p
}

func planRoot(from, to *Root) Plan {
	p := Plan{Role: RoleRoot, From: from.version, To: to.version, FromExpires: from.expires, ToExpires: to.expires}
	for _, role := range Roles() {
		a, b := from.roles[role], to.roles[role]
		h := ChangedHolder{
			Role: role, FromThreshold: a.Threshold, ToThreshold: b.Threshold,
			AddedKeys: without(b.Keys, a.Keys), RemovedKeys: without(a.Keys, b.Keys),
		}
		if len(h.AddedKeys)+len(h.RemovedKeys) > 0 || a.Threshold != b.Threshold {
			p.Holders = append(p.Holders, h)
		}
	}
	return p
}

// without returns the keys of a that are not in b.
func without(a, b []keys.Public) []keys.Public {
	return slices.DeleteFunc(slices.Clone(a), func(k keys.Public) bool { return slices.Contains(b, k) })
}
