package signer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/mirror/publish"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// session is one run of a command on a repository: what the signer trusts, where the repository is,
// and which proposals wait there.
type session struct {
	Signer
	ring    *keyring
	lock    *disk.Lock // nil: the session only reads
	trusted *trust.State
	place   place

	// refresh sets these, also after each publish.
	base     *trust.Repository // what is published
	pending  []*trust.Proposal
	reserved int64     // the highest reserved version of the list, 0 for none
	at       time.Time // now
}

// openSession opens the keys and the repository. Without write, it locks and changes nothing. The caller closes the
// session.
func openSession(ctx context.Context, s *Signer, write bool) (_ *session, err error) {
	ring, err := s.ring()
	if err != nil {
		return nil, err
	}
	if err := checkPlace(s.Repository); err != nil {
		return nil, err
	}
	x := &session{Signer: *s, ring: ring}
	defer func() {
		if err != nil {
			err = errors.Join(err, x.close())
		}
	}()
	if write {
		if x.lock, err = ring.lock(); err != nil {
			return nil, err
		}
	}
	if x.place, err = openPlace(ctx, s, write, ring); err != nil {
		return nil, err
	}
	if x.trusted, err = x.openTrusted(!write); err != nil {
		return nil, err
	}
	damage := x.trusted.Damage()
	if write {
		if err := x.trusted.RewriteDamaged(); err != nil {
			return nil, withHint(err)
		}
	}
	err = x.refresh(ctx)
	if d, ok := x.place.(*directory); ok {
		damage = append(damage, d.Problems()...)
		if err == nil {
			err = d.lacksRoot(x.trusted.Root())
		}
	}
	for _, d := range damage {
		x.Warn(d.Error())
	}
	return x, err
}

func (x *session) openTrusted(readOnly bool) (*trust.State, error) {
	var pinned []byte
	if x.Root != "" {
		var err error
		if pinned, err = readRoot(x.Root); err != nil {
			return nil, err
		}
	}
	state, err := x.ring.openTrusted(pinned, readOnly)
	if errors.Is(err, errFirstTime) {
		return nil, status.WithHint(fmt.Errorf("the keys in %s meet this repository for the first time", x.ring.dir),
			"say which root to trust with --root FILE: the 1.root.json that you got from whoever made the repository, not from where it is served")
	}
	return state, err
}

// refresh reads the published repository and the proposals that wait.
func (x *session) refresh(ctx context.Context) (err error) {
	x.at = x.Now()
	if err := x.refreshBase(ctx); err != nil {
		return withHint(fmt.Errorf("repository: %w", explain.At(x.Repository, err)))
	}
	for _, b := range x.trusted.Ledger().Rebound(x.base) {
		x.Warn(b.String())
	}
	if x.pending, x.reserved, err = x.place.Pending(ctx, x.base, x.trusted.Ledger(), x.at); err != nil {
		return withHint(err)
	}
	return nil
}

// refreshBase reads and verifies the published repository. If its timestamp differs from the one with the same
// version that the keys trust, the error is trust.ErrFork: a client keeps the first one that it accepted, but a signer
// must not sign on top of it. Since an origin may publish a newer timestamp between two reads, a difference counts
// only if the version stays.
func (x *session) refreshBase(ctx context.Context) error {
	var last *trust.Repository
	for {
		base, err := x.trusted.Refresh(ctx, x.place, trust.Clock{Now: x.at, AcceptExpired: true})
		if err != nil {
			return err
		}
		raw, err := x.place.Fetch(ctx, trust.TimestampName, trust.MaxLength(trust.RoleTimestamp), update.Digest{})
		if err != nil {
			return err
		}
		if bytes.Equal(raw, base.Raw(trust.RoleTimestamp)) {
			x.base = base
			return nil
		}
		version := base.Version(trust.RoleTimestamp)
		if last != nil && last.Version(trust.RoleTimestamp) >= version {
			return fmt.Errorf("timestamp %d: %w", version, trust.ErrFork)
		}
		last = base
	}
}

func (x *session) close() error {
	var errs []error
	if x.place != nil {
		errs = append(errs, x.place.Close())
	}
	if x.lock != nil {
		errs = append(errs, x.lock.Unlock())
	}
	return errors.Join(errs...)
}

// inSession runs a command in a session. With write, the command may change the keys and the repository, and both
// are locked.
func inSession[T any](ctx context.Context, s *Signer, write bool, run func(*session) (T, error)) (result T, err error) {
	x, err := openSession(ctx, s, write)
	if err != nil {
		return result, withHint(err)
	}
	result, err = run(x)
	return result, withHint(errors.Join(withHint(err), x.close()))
}

// signers returns the private keys of a part. It stores the base that they are about to sign on as trusted, so
// that no older one is accepted from now on.
func (x *session) signers(ctx context.Context, p part) ([]signing.Signer, error) {
	by, err := x.ring.signers(ctx, p)
	if err != nil {
		return nil, err
	}
	return by, x.trusted.Commit(x.base)
}

// submit publishes a proposal that has enough signatures, and keeps one that hasn't waiting. With hold it keeps
// every proposal waiting. The returned Change has the resulting state.
func (x *session) submit(ctx context.Context, p *trust.Proposal, files publish.Files, hold bool) (Change, error) {
	c := x.describe(p.Plan())
	if hold || !p.Complete() {
		return x.keepWaiting(ctx, c, p, files)
	}
	next := trust.Change{Targets: p}
	if p.Role() == trust.RoleRoot {
		next = trust.Change{Root: p}
	}
	before := x.base
	if err := x.publish(ctx, next, files); err != nil {
		return Change{}, err
	}
	c.State, c.Notes = statePublished, conditionNotes(p.Plan(), lastWithout(before, x.base), x.at)
	x.warnThreshold()
	return c, nil
}

// keepWaiting keeps a proposal waiting. If others have signed it meanwhile, the origin publishes it, and the state
// of c says so.
func (x *session) keepWaiting(ctx context.Context, c Change, p *trust.Proposal, files publish.Files) (Change, error) {
	if err := x.place.Hold(ctx, p, files); err != nil {
		return Change{}, err
	}
	if err := x.refresh(ctx); err != nil {
		return Change{}, err
	}
	if x.base.Version(p.Role()) < p.Version() {
		c.wait(p.Needs())
		return c, nil
	}
	c.State = statePublished
	return c, x.trusted.Commit(x.base)
}

// errNotServed says that an origin accepted a change and still serves older metadata.
var errNotServed = errors.New("it is said to be published, and an older one is served")

func (x *session) publish(ctx context.Context, c trust.Change, files publish.Files) error {
	if err := x.place.Publish(ctx, c, files); err != nil {
		return err
	}
	if err := x.refresh(ctx); err != nil {
		return err
	}
	for _, p := range []*trust.Proposal{c.Root, c.Targets} {
		if p != nil && x.base.Version(p.Role()) < p.Version() {
			return status.WithHint(fmt.Errorf("%s %d: %w: %d", p.Role(), p.Version(), errNotServed, x.base.Version(p.Role())),
				"look whether a cache before the origin holds timestamp.json or roots back; then run the command again")
		}
	}
	return x.trusted.Commit(x.base)
}

func (x *session) warnThreshold() {
	if n := x.base.Root().Threshold(trust.RoleTargets); n > 1 {
		x.Warn(fmt.Sprintf("lists need %d signatures, but boxes that check only .sig still trust one key alone", n))
	}
}

// current refuses a repository whose root is expired: no box would take what is published under it.
func (x *session) current() error {
	root := x.base.Root()
	if x.at.After(root.Expires()) {
		return status.WithHint(fmt.Errorf("root %d: %w at %s, and here it is %s", root.Version(), trust.ErrExpired, stamp(root.Expires()), stamp(x.at)),
			"if the clock of this computer is right, a root signer says boxsign root renew; else set the clock")
	}
	return nil
}

// waiting returns the proposals of a role that wait for signatures.
func (x *session) waiting(role trust.Role) []*trust.Proposal {
	var out []*trust.Proposal
	for _, p := range x.pending {
		if p.Role() == role {
			out = append(out, p)
		}
	}
	return out
}
