package origin

import (
	"context"
	"fmt"
	"time"

	"github.com/openpowerquality/box-update-server/internal/pace"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/store"
)

// checkEvery is how often Run looks at the clock. A timer alone would not notice that it was set.
const checkEvery = time.Hour

// renewAgain is the pauses after renewals that failed.
var renewAgain = pace.Backoff{First: time.Second, Most: 5 * time.Minute}

// Begin signs a new timestamp, so that a server can do it before it answers anybody: a crash may have left
// a root without the timestamp that must follow it. Where that fails it is logged, and Run, which
// comes after it, tries again.
func (o *Origin) Begin(ctx context.Context) { o.begun = o.renew(ctx) }

// Run renews snapshot and timestamp, at its start unless Begin did, and whenever half of their life is over, drops
// proposals that waited for too long, removes withdrawn archives now and then, and looks whether those that
// are listed are in place: where one was lost, the list is renewed all the same. It goes on after
// failures, which it logs and Health tells, and returns when ctx ends, with its error.
func (o *Origin) Run(ctx context.Context) error {
	due, failures := !o.begun, 0
	for {
		wait := checkEvery
		if due || o.repository().RenewalDue(o.c.Now()) {
			due = !o.renew(ctx)
		}
		switch {
		case due && ctx.Err() == nil:
			failures++
			wait = renewAgain.Pause(failures)
		default:
			failures = 0
		}
		if o.c.Store.GCDue(o.c.GCEvery) {
			o.collect(ctx)
		}
		o.tellLost(o.repository(), o.c.Now())
		if err := pace.Sleep(ctx, wait); err != nil {
			return err
		}
		o.expire(ctx)
	}
}

// renew reports whether nothing is left to do.
func (o *Origin) renew(ctx context.Context) bool {
	err := o.plausible()
	if err == nil {
		err = o.Renew(ctx)
	}
	if ctx.Err() != nil {
		return false
	}
	o.mu.Lock()
	o.failure = err
	o.mu.Unlock()
	if err != nil {
		o.c.Logger.Error("timestamp not renewed", "err", err)
	}
	return err == nil
}

// plausible refuses to renew at a time at which nobody would accept the result: either the clock is far
// ahead, and a timestamp from the future would make boxes believe that everything is expired, or a
// signer must act first.
func (o *Origin) plausible() error {
	repo, at := o.repository(), o.c.Now()
	for _, role := range []trust.Role{trust.RoleRoot, trust.RoleTargets} {
		if expires := repo.Expires(role); at.After(expires) {
			return fmt.Errorf("%s %d: %w at %s by this clock, which says %s: set the clock, or publish a new one", role, repo.Version(role),
				trust.ErrExpired, expires.Format(time.RFC3339), at.UTC().Format(time.RFC3339))
		}
	}
	return nil
}

func (o *Origin) expire(ctx context.Context) {
	if o.acquire(ctx) != nil {
		return
	}
	defer o.release()
	o.tidy()
}

// GC removes what no list names that is published or staged; see store.Store.GC.
func (o *Origin) GC(ctx context.Context, dryRun bool) (store.Collected, error) {
	return o.c.Store.GC(ctx, store.GC{Keep: o.wantsArchive, DryRun: dryRun})
}

func (o *Origin) collect(ctx context.Context) {
	got, err := o.GC(ctx, false)
	if len(got.Digests) > 0 {
		o.c.Logger.Info("withdrawn archives removed", "count", len(got.Digests), "bytes", got.Bytes)
	}
	if err != nil && ctx.Err() == nil {
		o.c.Logger.Error("withdrawn archives not removed", "err", err)
	}
}
