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
	Withdrawn bool         `json:"withdrawn,omitempty"` // the installed update is not listed any more
	Stale     time.Time    `json:"stale_since,omitzero"`
	Expires   time.Time    `json:"expires"` // the earliest expiry of the known metadata

	release trust.Release // zero: none
}

// Check asks the mirrors whether there is an update for this box. It downloads no archive.
func (b *Box) Check(ctx context.Context) (o Offer, err error) {
	err = b.change(func(s *session) error {
		repo, err := s.refresh(ctx)
		if err != nil {
			return err
		}
		o = s.offer(repo, s.readStatus(), false)
		s.warnStale(o)
		return nil
	})
	return o, err
}

// facts returns what the conditions of an update can ask about this box.
func (s *session) facts(installed install.Status) trust.Box {
	return trust.Box{Machine: s.machine, Hardware: s.Hardware, Installed: installed.Version}
}

// offer returns what a repository has for this box. With downgrade, that may be a version lower than the installed one.
func (s *session) offer(repo *trust.Repository, installed install.Status, downgrade bool) Offer {
	c := chooser{product: s.Product, box: s.facts(installed), status: installed, downgrade: downgrade}
	if s.MaxBytesPerDay > 0 && !downgrade {
		c.part = s.record.Part
	}
	chosen := c.choose(repo, repo.RolloutTime(s.clock()))
	o := Offer{Held: chosen.Held, Stale: repo.StaleSince(s.clock()), Expires: expiry(repo), release: chosen.Release}
	if in := installedName(installed); in != nil {
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

// expiry returns the earliest expiry of all metadata of a repository.
func expiry(repo *trust.Repository) (first time.Time) {
	for _, role := range trust.Roles() {
		if at := repo.Expires(role); first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first
}

// warnStale warns of expired metadata that accept_stale still accepts.
func (s *session) warnStale(o Offer) {
	if !o.Stale.IsZero() {
		s.warn("the metadata of the mirrors expired at %s; accept_stale allows that, so updates that were withdrawn since may be offered",
			o.Stale.Format(time.RFC3339))
	}
}

// readStatus returns what is installed. If the record can't be read, it warns and returns the zero Status: the next
// installation warns too, and begins a new record.
func (s *session) readStatus() install.Status {
	installed, err := install.ReadStatus(s.State)
	if err != nil {
		s.warn("the record of what is installed can't be read: %v", err)
	}
	return installed
}

// installedName returns the name of the installed update, nil if there is none.
func installedName(s install.Status) *update.Name {
	if s.Installed == nil {
		return nil
	}
	return &s.Installed.Name
}
