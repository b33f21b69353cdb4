package origin

import (
	"context"
	"fmt"
	"time"

	"github.com/openpowerquality/box-update-server/internal/pace"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/store"
)

// checkEvery is how often Run reads the clock, because a timer does not notice that somebody set it.
const checkEvery = time.Hour

// renewalPauses are the pauses after renewals that failed.
var renewalPauses = pace.Backoff{First: time.Second, Most: 5 * time.Minute}

// Begin signs a new timestamp before a server answers anybody, because a crash may have left a root without the
// timestamp that must follow it. It logs an error, and the later Run tries again.
func (o *Origin) Begin(ctx context.Context) { o.begun = o.renew(ctx) }

// Run renews snapshot and timestamp, at its start unless Begin did, and whenever half of their life is over. It drops
// proposals that waited for too long, removes withdrawn archives, and looks for lost ones, which do not stop the
// renewal. It logs failures, which Health reports too, and continues until ctx ends, whose error it returns.
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
			wait = renewalPauses.Pause(failures)
		default:
			failures = 0
		}
		if o.c.Store.GCDue(o.c.GCEvery) {
			o.collect(ctx)
		}
		o.logLost(o.repository(), o.c.Now())
		if err := pace.Sleep(ctx, wait); err != nil {
			return err
		}
		o.expire(ctx)
	}
}

// renew renews, and reports whether that succeeded.
func (o *Origin) renew(ctx context.Context) bool {
	err := o.checkRenewable()
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

// checkRenewable refuses to renew if root or list have expired by this clock. Either the clock is far ahead, and a
// timestamp from the future would make boxes believe that everything has expired, or a signer must act first.
func (o *Origin) checkRenewable() error {
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
	if o.changing.Acquire(ctx, 1) != nil {
		return
	}
	defer o.changing.Release(1)
	o.tidy()
}

// GC removes what no published or staged list names; see store.Store.GC.
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
