package main

import (
	"fmt"
	"time"

	"github.com/openpowerquality/box-update-server/internal/box"
	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/update"
	"github.com/openpowerquality/box-update-server/update/install"
)

// facts writes lines, each a key and a value. It leaves out those whose value is "".
func (p *program) facts(pairs ...string) {
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			fmt.Fprintf(p.streams.Out, "%s: %s\n", pairs[i], cli.Printable(pairs[i+1]))
		}
	}
}

// showInitiated writes the result of init.
func (p *program) showInitiated(in box.Initiated) error {
	if p.asJSON {
		return p.streams.JSON(in)
	}
	p.facts("root", fmt.Sprintf("version %d, expires %s", in.Root, stamp(in.Expires)),
		"root fingerprint", in.Fingerprint.String(), "config", in.Config, "state", in.State)
	if in.Old != "" {
		p.facts("note", "the new configuration has no comments; the old one is in "+in.Old)
	}
	for _, m := range in.Mirrors {
		p.facts("mirror", m)
	}
	return nil
}

// showOffer writes an offer.
func (p *program) showOffer(o box.Offer) error {
	if p.asJSON {
		return p.streams.JSON(o)
	}
	p.facts("installed", nameOr(o.Installed, "nothing"))
	if o.Withdrawn {
		p.facts("note", "the installed update is not in the signed list any more; boxup update --allow-downgrade installs the newest one that is")
	}
	p.facts("update", nameOr(o.Update, "none: up to date"))
	if o.Update != nil {
		p.facts("length", fmt.Sprint(o.Length))
	}
	p.factsHeld(o.Held)
	return nil
}

func (p *program) factsHeld(all []box.Held) {
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

// showFetched writes the result of fetch.
func (p *program) showFetched(f box.Fetched) error {
	switch {
	case p.asJSON:
		return p.streams.JSON(f)
	case f.Name == nil:
		return p.showOffer(f.Offer)
	}
	p.facts("fetched", f.Name.String(), "digest", f.Digest.String(), "file", f.Path)
	return nil
}

// showOutcome writes the outcome of install and update.
func (p *program) showOutcome(o box.Outcome) error {
	if p.asJSON {
		return p.streams.JSON(o)
	}
	for _, r := range o.Installed {
		p.facts("installed", r.Installed.Name.String())
	}
	if len(o.Installed) == 0 {
		p.facts("installed", nameOr(o.Status.Installed, "nothing"))
	}
	switch {
	case o.Update != nil:
		p.facts("update", o.Update.String(), "waits", o.Waits)
	case len(o.Installed) == 0:
		p.facts("update", "none: up to date")
	}
	p.factsHeld(o.Held)
	if o.Status.Reboot {
		p.facts("reboot", "requested")
	}
	return nil
}

func (p *program) showReport(r box.Report) {
	p.facts("installed", installedWords(r.Installed, "nothing"), "previous", installedWords(r.Previous, ""))
	if a := r.Attempt; a != nil {
		p.facts("under way", fmt.Sprintf("%v: %s, since %s", a.Name, a.Phase, stamp(a.Started)))
	}
	for _, f := range r.Failures {
		key := "failed"
		if f.SetAside {
			key = "set aside"
		}
		p.facts(key, fmt.Sprintf("%v: %d times, the last at %s: %s", f.Name, f.Count, stamp(f.Last), f.Reason))
	}
	if !r.AsideTo.IsZero() {
		p.facts("set aside", "every version up to "+r.AsideTo.String())
	}
	p.facts("damaged", r.Damaged)
	if r.Reboot != nil {
		p.facts("reboot", "requested at "+stamp(r.Reboot.Since))
	}
	p.showKnown(r)
	p.facts("window", r.Window)
	if r.Today != nil {
		p.facts("left today", fmt.Sprint(*r.Today))
	}
	if r.Root != nil {
		p.facts("root", fmt.Sprintf("version %d, expires %s", r.Root.Version, stamp(r.Root.Expires)),
			"root digest", r.Root.Fingerprint.String())
	}
	p.facts("machine", r.Machine)
	for _, m := range r.Mirrors {
		p.facts("mirror", mirrorWords(m))
	}
}

func (p *program) showKnown(r box.Report) {
	if o := r.Known; o != nil {
		p.facts("update", nameOr(o.Update, "none: up to date"))
		p.factsHeld(o.Held)
		p.facts("expires", stamp(o.Expires))
		if !o.Stale.IsZero() {
			p.facts("stale", "since "+stamp(o.Stale)+", accepted because of accept_stale")
		}
	}
	p.facts("problem", r.Problem)
	if !r.Checked.IsZero() {
		p.facts("checked", stamp(r.Checked))
	}
	p.facts("last error", r.Error)
}

func stamp(at time.Time) string { return at.UTC().Format(time.RFC3339) }

func installedWords(in *install.Installed, none string) string {
	if in == nil {
		return none
	}
	return fmt.Sprintf("%v, at %s", in.Name, stamp(in.Time))
}

func mirrorWords(m box.Mirror) string {
	text := m.URL
	if m.Behind {
		text += ", behind another mirror"
	}
	if !m.Slow.IsZero() {
		text += ", much slower than another mirror, asked last until " + stamp(m.Slow)
	}
	if !m.Until.IsZero() {
		text += ", paused until " + stamp(m.Until) + ": " + m.Reason
	}
	return text
}
