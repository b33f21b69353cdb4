package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
	"github.com/openpowerquality/box-update-server/update/install"
)

// offer is what check says.
type offer struct {
	Installed *update.Name `json:"installed"` // null: nothing yet
	Update    *update.Name `json:"update"`    // null: none for this box now
	Length    int64        `json:"length,omitempty"`
	Published time.Time    `json:"published,omitzero"`
	Held      []held       `json:"held,omitempty"`
	Withdrawn bool         `json:"withdrawn,omitempty"` // what is installed is not listed any more
	Stale     time.Time    `json:"stale_since,omitzero"`
	Expires   time.Time    `json:"expires"` // when what is known stops being accepted

	release trust.Release // zero: none
}

func (p *program) checkCommand() *cobra.Command {
	var splay time.Duration
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Ask the mirrors whether there is an update for this box",
		Long: "Asks the mirrors whether there is an update for this box, and says why a newer one is not for it yet.\n" +
			"Where nothing is new that is one small request.\n\nExit code 0: up to date; 10: an update is there; " +
			"others as of boxup --help.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := p.delay(cmd.Context(), splay); err != nil {
				return err
			}
			return p.withBox(func(b *box) error { return b.check(cmd.Context()) })
		},
	}
	splayFlag(cmd, &splay)
	return p.jsonFlag(cmd)
}

func (b *box) check(ctx context.Context) error {
	repo, err := b.refresh(ctx)
	if err != nil {
		return err
	}
	o := b.offer(repo, b.readStatus(), false)
	b.warnStale(o)
	if err := b.show(o); err != nil {
		return err
	}
	if o.Update != nil {
		return cli.Exit(codeAvailable)
	}
	return nil
}

// offer says what a repository has for this box.
func (b *box) offer(repo *trust.Repository, s install.Status, downgrade bool) offer {
	c := chooser{product: b.Product, machine: b.machine, hardware: b.Hardware, status: s, downgrade: downgrade}
	if b.MaxBytesPerDay > 0 && !downgrade {
		c.part = b.record.Part
	}
	chosen := c.choose(repo, repo.RolloutTime(b.clock()))
	o := offer{Held: chosen.Held, Stale: repo.StaleSince(b.clock()), Expires: expiry(repo), release: chosen.Release}
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
func (b *box) warnStale(o offer) {
	if !o.Stale.IsZero() {
		b.warn("what the mirrors have expired at %s, and accept_stale lets it in: updates that were withdrawn since may be offered",
			o.Stale.Format(time.RFC3339))
	}
}

// show writes an offer.
func (b *box) show(o offer) error {
	if b.asJSON {
		return b.streams.JSON(o)
	}
	b.facts("installed", nameOr(o.Installed, "nothing"))
	if o.Withdrawn {
		b.facts("note", "what is installed is not listed any more; boxup update --allow-downgrade goes to the newest one that is")
	}
	b.facts("update", nameOr(o.Update, "none: up to date"))
	if o.Update != nil {
		b.facts("length", fmt.Sprint(o.Length))
	}
	b.factsHeld(o.Held)
	return nil
}

func (p *program) factsHeld(all []held) {
	for _, h := range all {
		p.facts("not yet", h.Name.String()+": "+h.Reason)
	}
}

func nameOr(n *update.Name, none string) string {
	if n == nil {
		return none
	}
	return n.String()
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
