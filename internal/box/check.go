package box

import (
	"context"
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
	"github.com/openpowerquality/box-update-server/update/install"
)

// Offer is what the mirrors have for this box.
type Offer struct {
	Installed *update.Name `json:"installed"` // null: nothing yet
	Update    *update.Name `json:"update"`    // null: none for this box now
	Length    int64        `json:"length,omitempty"`
	Published time.Time    `json:"published,omitzero"`
	Held      []Held       `json:"held,omitempty"`
	Withdrawn bool         `json:"withdrawn,omitempty"` // what is installed is not listed any more
	Stale     time.Time    `json:"stale_since,omitzero"`
	Expires   time.Time    `json:"expires"` // when what is known stops being accepted

	release trust.Release // zero: none
}

// Check asks the mirrors whether there is an update for this box.
func (p *Box) Check(ctx context.Context) (o Offer, err error) {
	err = p.change(func(b *box) error {
		repo, err := b.refresh(ctx)
		if err != nil {
			return err
		}
		o = b.offer(repo, b.readStatus(), false)
		b.warnStale(o)
		return nil
	})
	return o, err
}

// offer says what a repository has for this box.
func (b *box) offer(repo *trust.Repository, s install.Status, downgrade bool) Offer {
	c := chooser{product: b.Product, machine: b.machine, hardware: b.Hardware, status: s, downgrade: downgrade}
	if b.MaxBytesPerDay > 0 && !downgrade {
		c.part = b.record.Part
	}
	chosen := c.choose(repo, repo.RolloutTime(b.clock()))
	o := Offer{Held: chosen.Held, Stale: repo.StaleSince(b.clock()), Expires: expiry(repo), release: chosen.Release}
	if in := installedName(s); in != nil {
		o.Installed = in
		_, listed := repo.Release(*in)
		o.Withdrawn = !listed
	}
	if !chosen.Release.IsZero() {
		n := chosen.Release.Name()
		o.Update, o.Length, o.Published = &n, chosen.Release.Length(), chosen.Release.Published()
	}
	return o
}

// expiry returns when the first file of a repository expires.
func expiry(repo *trust.Repository) (first time.Time) {
	for _, role := range trust.Roles() {
		if at := repo.Expires(role); first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first
}

// warnStale says that what is known would be refused without accept_stale.
func (b *box) warnStale(o Offer) {
	if !o.Stale.IsZero() {
		b.warn("what the mirrors have expired at %s, and accept_stale lets it in: updates that were withdrawn since may be offered",
			o.Stale.Format(time.RFC3339))
	}
}

// readStatus returns what is installed. Where the record can't be read, that is nothing: the next
// installation says so too, and begins a new one.
func (b *box) readStatus() install.Status {
	s, err := install.ReadStatus(b.dir)
	if err != nil {
		b.warn("what is installed is not known: %v", err)
	}
	return s
}

// installedName returns the name of what is installed, nil where nothing is.
func installedName(s install.Status) *update.Name {
	if s.Installed == nil {
		return nil
	}
	return &s.Installed.Name
}
