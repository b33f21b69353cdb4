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

// Commit publishes the staged list with that ID: archives, list, snapshot and, last, timestamp, each
// durable before the next. It is what is served when Commit returns. The ID of the list that is
// published already is no error.
//
// The errors are ErrNotFound; store.ErrIncomplete where archives have not arrived, or the disk failed
// to keep them, and Propose says again what is missing; ErrNoKey; ErrAhead; disk.ErrNoSpace;
// store.ErrCorrupt where an archive is not what was signed although each block is. After an error the
// old repository is served or, where only the last step failed, the new one; to commit again is right
// in any case.
func (o *Origin) Commit(ctx context.Context, id update.Digest) (status.Versions, error) {
	// Archives are hashed and synced here, where they keep nobody waiting.
	if p, err := o.find(id); err == nil && p.staged() {
		if err := o.placeArchives(ctx, p); err != nil {
			return status.Versions{}, o.during("commit", err)
		}
	}
	if err := o.acquire(ctx); err != nil {
		return status.Versions{}, err
	}
	defer o.release()
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

// commitRoot publishes a complete root and a timestamp after it. The caller has the token.
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

// Publish makes a repository with that change the current one, in one step: nothing is staged, so that nothing waits after
// an error or a crash. It is for a signer who has the archives of a list in the store already; the zero Change renews.
func (o *Origin) Publish(ctx context.Context, c trust.Change) error {
	if err := o.acquire(ctx); err != nil {
		return err
	}
	defer o.release()
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

// Renew signs a new timestamp and, where it is needed, a new snapshot.
func (o *Origin) Renew(ctx context.Context) error {
	if err := o.acquire(ctx); err != nil {
		return err
	}
	defer o.release()
	if err := o.publish(ctx, trust.Change{}); err != nil {
		return o.during("renew", err)
	}
	return nil
}

// finishCommit makes sure that what is published lies on the disk, whole, and that a timestamp was signed
// after its root. A crash or an error in the middle of a commit may have left that open. The caller
// has the token.
func (o *Origin) finishCommit(ctx context.Context) error {
	if !o.unsettled {
		return nil
	}
	return o.publish(ctx, trust.Change{})
}

// publish makes the repository that follows with that change the current one. The caller has the token.
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

// checkJump refuses, with ErrJump, to sign by a clock that is too far ahead of what is known: what was signed, when the
// program was built, when somebody said that the clock is right, and how long it is since this process signed something.
func (k known) checkJump(repo *trust.Repository, at time.Time, c trust.Change) error {
	if err := repo.CheckJump(at, c, k.built, k.checked, k.since); err != nil {
		return fmt.Errorf("%w: %w", ErrJump, err)
	}
	return nil
}

// haveKey refuses, with ErrNoKey, a root under which the signers here can't sign.
func (o *Origin) haveKey(root *trust.Root) error {
	if o.c.Local {
		return nil // whoever brings the keys is told in their words
	}
	var mine []keys.Public
	for _, s := range o.c.Online {
		mine = append(mine, s.Public())
	}
	for _, role := range []trust.Role{trust.RoleSnapshot, trust.RoleTimestamp} {
		have := slices.DeleteFunc(root.Keys(role), func(k keys.Public) bool { return !slices.Contains(mine, k) })
		if len(have) < root.Threshold(role) {
			return fmt.Errorf("%w: root %d lets the keys %v sign %s, and here are %v", ErrNoKey, root.Version(), root.Keys(role), role, mine)
		}
	}
	return nil
}
