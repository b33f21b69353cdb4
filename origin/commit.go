package origin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// Commit publishes the staged list with that ID: archives, list, snapshot and, last, the timestamp, each durable before
// the next. When it returns, the list is served. If that list is published already, Commit returns nil.
//
// The errors are ErrNotFound; store.ErrIncomplete if archives have not arrived or the disk lost them, and then Propose
// says again what is missing; ErrNoKey; ErrAhead; disk.ErrNoSpace; store.ErrCorrupt if an archive is not the signed one
// although each block is. After an error the old repository is served, or the new one if only the last step failed.
// The caller may always commit again.
func (o *Origin) Commit(ctx context.Context, id update.Digest) (status.Versions, error) {
	// Hash and sync the archives before others have to wait for changing.
	if p, err := o.find(id); err == nil && p.staged() {
		if err := o.placeArchives(ctx, p); err != nil {
			return status.Versions{}, o.during("commit", err)
		}
	}
	if err := o.changing.Acquire(ctx, 1); err != nil {
		return status.Versions{}, err
	}
	defer o.changing.Release(1)
	repo := o.repository()
	if update.Sum(repo.Raw(trust.RoleTargets)) == id {
		err := o.finishCommit(ctx)
		return o.repository().Versions(), err
	}
	p, err := o.find(id)
	if err == nil && !p.staged() {
		err = fmt.Errorf("%s %d: %w: it is pending", p.Role(), p.Version(), ErrNotFound)
	}
	if err != nil {
		return status.Versions{}, o.during("commit", err)
	}
	if err := o.publish(ctx, trust.Change{Targets: p.Proposal}); err != nil {
		return status.Versions{}, o.during("commit", err)
	}
	return o.repository().Versions(), nil
}

// commitRoot publishes a complete root and a timestamp after it. The caller holds changing.
func (o *Origin) commitRoot(ctx context.Context, p *proposal) (Outcome, error) {
	root, err := trust.ParseRoot(p.Raw())
	if err != nil {
		return Outcome{}, o.during("propose", err)
	}
	if err := o.haveKey(root); err != nil {
		return Outcome{}, o.during("propose", err)
	}
	if err := o.publish(ctx, trust.Change{Root: p.Proposal}); err != nil {
		return Outcome{}, o.during("propose", err)
	}
	return Outcome{Status: StatusCommitted, ID: p.id, Current: o.repository().Versions()}, nil
}

// Publish makes a repository with that change the current one, in one step: it stages nothing, so that no proposal
// waits after an error or a crash. It is for a signer whose store has the archives already. The zero Change renews.
func (o *Origin) Publish(ctx context.Context, c trust.Change) error {
	if err := o.changing.Acquire(ctx, 1); err != nil {
		return err
	}
	defer o.changing.Release(1)
	for _, p := range []*trust.Proposal{c.Root, c.Targets} {
		if p == nil {
			continue
		}
		if _, err := o.check(p.Role(), o.reserved(), p.Raw(), o.c.Now()); err != nil {
			return o.refused(err)
		}
	}
	return o.publish(ctx, c)
}

// Renew signs a new timestamp and, if needed, a new snapshot.
func (o *Origin) Renew(ctx context.Context) error {
	if err := o.changing.Acquire(ctx, 1); err != nil {
		return err
	}
	defer o.changing.Release(1)
	if err := o.publish(ctx, trust.Change{}); err != nil {
		return o.during("renew", err)
	}
	return nil
}

// finishCommit makes sure that what is published is on the disk, whole, and that a timestamp was signed after its root.
// A crash or an error in the middle of a commit may have prevented that. The caller
// holds changing.
func (o *Origin) finishCommit(ctx context.Context) error {
	if !o.unsettled {
		return nil
	}
	return o.publish(ctx, trust.Change{})
}

// publish signs the next repository, with that change, and makes it the current one. The caller holds changing.
func (o *Origin) publish(ctx context.Context, c trust.Change) error {
	repo, at := o.repository(), o.c.Now()
	if err := o.haveKey(repo.Root()); err != nil && c.Root == nil {
		return err
	}
	if err := o.known().checkJump(repo, at, c); err != nil {
		if o.c.Local {
			return repo.CheckJump(at, c)
		}
		return err
	}
	next, err := repo.Next(ctx, at, c, o.c.Online...)
	if errors.Is(err, trust.ErrAhead) && !o.c.Local {
		return fmt.Errorf("%w: %w", ErrAhead, err)
	}
	if err != nil {
		return err
	}
	o.unsettled = true
	err = o.c.Store.Commit(ctx, next)
	if now := o.repository(); now != repo {
		o.c.Logger.Info("published", "root", now.Version(trust.RoleRoot), "targets", now.Version(trust.RoleTargets),
			"snapshot", now.Version(trust.RoleSnapshot), "timestamp", now.Version(trust.RoleTimestamp))
	}
	if c != (trust.Change{}) {
		o.recheck()
	}
	if err != nil {
		return err
	}
	o.unsettled = false
	o.mu.Lock()
	o.signed, o.signedAt = time.Now(), at
	o.mu.Unlock()
	return nil
}

// checkJump refuses, with ErrJump, to sign by a clock that is too far ahead of what is known: the signed times, the build
// date, the last time that somebody confirmed the clock, and the time since the last signature of this process.
func (k known) checkJump(repo *trust.Repository, at time.Time, c trust.Change) error {
	if err := repo.CheckJump(at, c, k.built, k.checked, k.since); err != nil {
		return fmt.Errorf("%w: %w", ErrJump, err)
	}
	return nil
}

// haveKey refuses, with ErrNoKey, a root under which the online keys of this origin can't sign.
func (o *Origin) haveKey(root *trust.Root) error {
	if o.c.Local {
		return nil // trust.Repository.Next tells the signer
	}
	var mine []keys.Public
	for _, s := range o.c.Online {
		mine = append(mine, s.Public())
	}
	for _, role := range []trust.Role{trust.RoleSnapshot, trust.RoleTimestamp} {
		have := slices.DeleteFunc(root.Keys(role), func(k keys.Public) bool { return !slices.Contains(mine, k) })
		if len(have) < root.Threshold(role) {
			return fmt.Errorf("%w: root %d accepts the keys %v for %s, and the keys here are %v", ErrNoKey, root.Version(), root.Keys(role), role, mine)
		}
	}
	return nil
}
