package trust

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/update"
)

// Addition is an update to be listed.
type Addition struct {
	Name       update.Name
	Digest     update.Digest
	Length     int64
	Blocks     update.Digest // of the block list
	Unpacked   int64         // bytes; 0 where it is not known
	Conditions Conditions
}

// TargetsEdit is the next list of a repository while it is edited.
type TargetsEdit struct {
	base     *Repository
	known    *Ledger
	reserved int64
	at       time.Time
	releases map[update.Name]Release
}

// EditTargets begins the next list. known remembers the digests of all names. reserved is the highest version that
// was signed but not published, 0 for none; the new list gets a higher one. at is the time of signing. The error is
// ErrAhead if the published timestamp was signed later.
func (r *Repository) EditTargets(known *Ledger, reserved int64, at time.Time) (*TargetsEdit, error) {
	if err := r.CheckClock(at); err != nil {
		return nil, err
	}
	if max(r.Version(RoleTargets), reserved) >= maxVersion {
		return nil, errors.New("targets: no version is left; restore the repository from before somebody counted it up, and replace release and online keys")
	}
	releases, err := r.list().releasesToEdit()
	if err != nil {
		return nil, err
	}
	return &TargetsEdit{r, known.after(r), reserved, at, releases}, nil
}

// Add lists an update. An update that is listed with the same digest stays as it is. Another digest for a name, even
// a withdrawn one, is refused with ErrSecondDigest; see Ledger.Rebound for the exception.
func (e *TargetsEdit) Add(a Addition) error {
	if err := e.known.check(a.Name, a.Digest); err != nil {
		return err
	}
	if had, ok := e.releases[a.Name]; ok {
		return (&Ledger{digests: map[update.Name]update.Digest{a.Name: had.Digest()}}).check(a.Name, a.Digest)
	}
	r, err := a.release(e.at)
	if err != nil {
		return fmt.Errorf("add %v: %w", a.Name, err)
	}
	e.releases[a.Name] = r
	return nil
}

func (a Addition) release(at time.Time) (Release, error) {
	if err := a.Conditions.check(); err != nil {
		return Release{}, err
	}
	raw, err := canonical(custom{
		Blocks: a.Blocks, wireConditions: a.Conditions.wire(), Time: formatTime(at), Unpacked: a.Unpacked,
		Version: a.Name.Version().String(), Sigs: detached{},
	})
	if err != nil {
		return Release{}, err
	}
	return newRelease(a.Name, a.Digest, a.Length, raw)
}

// Withdraw takes an update off the list. It is an error if the update is not listed.
func (e *TargetsEdit) Withdraw(n update.Name) error {
	if _, ok := e.releases[n]; !ok {
		return fmt.Errorf("withdraw %v: it is not listed", n)
	}
	delete(e.releases, n)
	return nil
}

// Condition changes which boxes a listed update is for. Its publish time stays. It is an error if the update is not
// listed.
func (e *TargetsEdit) Condition(n update.Name, c Conditions) error {
	r, ok := e.releases[n]
	if !ok {
		return fmt.Errorf("change %v: it is not listed", n)
	}
	if err := c.check(); err != nil {
		return fmt.Errorf("change %v: %w", n, err)
	}
	r, err := r.edited(func(to *custom) { to.wireConditions = c.wire() })
	if err != nil {
		return fmt.Errorf("change %v: %w", n, err)
	}
	e.releases[n] = r
	return nil
}

// Keep takes the oldest updates off the list until each product has at most most versions.
func (e *TargetsEdit) Keep(most int) {
	versions := map[update.Product][]update.Version{}
	for n := range e.releases {
		if p := n.Product(); !slices.Contains(versions[p], n.Version()) {
			versions[p] = append(versions[p], n.Version())
		}
	}
	for _, vs := range versions {
		slices.SortFunc(vs, func(a, b update.Version) int { return b.Compare(a) })
	}
	maps.DeleteFunc(e.releases, func(n update.Name, _ Release) bool {
		return slices.Index(versions[n.Product()], n.Version()) >= most
	})
}

func (e *TargetsEdit) version() int64 { return max(e.base.Version(RoleTargets), e.reserved) + 1 }

// Plan says what the edit changes.
func (e *TargetsEdit) Plan() Plan {
	p := planTargets(e.known, e.base.byName, e.releases)
	p.From, p.To = e.base.Version(RoleTargets), e.version()
	p.FromExpires, p.ToExpires = e.base.Expires(RoleTargets), RoleTargets.expiry(e.at)
	return p
}

// Sign makes the next list and signs it with those signers whose key has the role; the error is ErrKey if none has.
// First it makes detached signatures for each update that has none by a present key.
func (e *TargetsEdit) Sign(ctx context.Context, by ...signing.Signer) (*Proposal, error) {
	if len(e.releases) > MaxUpdates {
		return nil, fmt.Errorf("%w: %d, and a list holds %d: keep fewer", ErrTooMany, len(e.releases), MaxUpdates)
	}
	by, err := e.base.Root().choose(RoleTargets, by)
	if err != nil {
		return nil, err
	}
	signed, rank := make(map[update.Name]Release, len(e.releases)), e.base.Root().ranks(RoleTargets)
	for n, r := range e.releases {
		if signed[n], err = signRelease(ctx, r, rank, by); err != nil {
			return nil, err
		}
	}
	content, err := encodeList(e.version(), e.at, signed)
	if err != nil {
		return nil, err
	}
	raw, err := signFile(ctx, e.base.Root(), RoleTargets, content, by)
	if err != nil {
		return nil, err
	}
	return e.base.CheckTargets(e.known, e.reserved, raw, e.at)
}

// signRelease returns r with its detached signatures by present keys, which are those in rank. If there is none, each
// signer makes one.
func signRelease(ctx context.Context, r Release, rank map[keys.ID]int, by []signing.Signer) (Release, error) {
	var sigs detached
	for _, s := range r.sigs {
		if rank[s.Key] < 0 {
			sigs = append(sigs, s)
		}
	}
	if len(sigs) > 0 && len(sigs) == len(r.sigs) && !r.cosigned {
		return r, nil
	}
	if len(sigs) == 0 {
		for _, s := range by {
			sig, err := signing.Sign(ctx, s, r.Digest(), r.Name())
			if err != nil {
				return Release{}, err
			}
			sigs = append(sigs, KeySignature{s.Public().ID(), sig})
		}
	}
	return r.edited(func(c *custom) { c.Sigs = sigs })
}

// choose returns the signers whose key has the role. The error is ErrKey if none has.
func (r *Root) choose(role Role, by []signing.Signer) ([]signing.Signer, error) {
	var out []signing.Signer
	var have []keys.Public
	for _, s := range by {
		have = append(have, s.Public())
		if r.roles[role].has(s.Public()) {
			out = append(out, s)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: root %d accepts the keys %s for %s, and the keys here are %s", ErrKey, r.version, fingerprints(r.roles[role].Keys), role, fingerprints(have))
	}
	return out, nil
}

// RootEdit is the next root of a repository while it is edited.
type RootEdit struct {
	base  *Repository
	at    time.Time
	roles map[Role]Holder
}

// EditRoot begins the next root. Without a change it renews the present one. The clock is not checked as CheckClock
// does: if the online key signed a time in the future, only a root that replaces this key ends that.
func (r *Repository) EditRoot(at time.Time) *RootEdit {
	return &RootEdit{base: r, at: at, roles: maps.Clone(r.Root().roles)}
}

// AddKey gives a key a role. It is an error if the key has the role already.
func (e *RootEdit) AddKey(role Role, k keys.Public) error {
	h, ok := e.roles[role]
	if !ok || k.IsZero() || h.has(k) {
		return fmt.Errorf("add key %s to %s: it is there already, or there is no such role or key", k, role)
	}
	h.Keys = append(slices.Clone(h.Keys), k)
	e.roles[role] = h
	return nil
}

// RemoveKey takes a role from a key. The threshold stays: see SetThreshold. The error is ErrKey if the key does not
// have the role.
func (e *RootEdit) RemoveKey(role Role, id keys.ID) error {
	h := e.roles[role]
	left := slices.DeleteFunc(slices.Clone(h.Keys), func(k keys.Public) bool { return k.ID() == id })
	if len(left) == len(h.Keys) {
		return fmt.Errorf("remove key %s from %s: %w", id.Fingerprint(), role, ErrKey)
	}
	e.roles[role] = Holder{left, h.Threshold}
	return nil
}

// SetThreshold says how many keys of a role must sign, at least 1.
func (e *RootEdit) SetThreshold(role Role, n int) error {
	h, ok := e.roles[role]
	if !ok || n < 1 {
		return fmt.Errorf("threshold of %s: expected a role and a number from 1, got %d", role, n)
	}
	h.Threshold = n
	e.roles[role] = h
	return nil
}

// Plan says what the edit changes. It is an error if a role has fewer keys than its threshold.
func (e *RootEdit) Plan() (Plan, error) {
	next, err := newRoot(e.base.Root(), e.at, e.roles)
	if err != nil {
		return Plan{}, err
	}
	return planRoot(e.base.Root(), next), nil
}

// Sign makes the next root and signs it with those signers whose key is a root key of the present root or of the
// next; the error is ErrKey if none is.
func (e *RootEdit) Sign(ctx context.Context, by ...signing.Signer) (*Proposal, error) {
	next, err := newRoot(e.base.Root(), e.at, e.roles)
	if err != nil {
		return nil, err
	}
	sigs, err := signBoth(ctx, e.base.Root(), next, by)
	if err != nil {
		return nil, err
	}
	raw, err := join(sigs, next.signed)
	if err != nil {
		return nil, err
	}
	return e.base.CheckRoot(raw, e.at)
}

// signBoth returns the signatures of next with those by the signers whose key is a root key of either root. A key of
// both signs once.
func signBoth(ctx context.Context, base, next *Root, by []signing.Signer) ([]fileSignature, error) {
	old, errOld := base.choose(RoleRoot, by)
	own, errNew := next.choose(RoleRoot, by)
	if errOld != nil && errNew != nil {
		return nil, errors.Join(errOld, errNew)
	}
	sigs, err := sign(ctx, base, RoleRoot, next.signed, next.signatures, old, nil)
	if err != nil {
		return nil, err
	}
	own = slices.DeleteFunc(own, func(s signing.Signer) bool { return slices.Contains(old, s) })
	return sign(ctx, next, RoleRoot, next.signed, sigs, own, nil)
}
