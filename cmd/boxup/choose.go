package main

import (
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
	"github.com/openpowerquality/box-update-server/update/install"
)

// maxHeld bounds how many updates are named that this box does not take.
const maxHeld = 5

// holdFailed says that an update was set aside here, because it failed.
const holdFailed trust.Hold = "set aside"

// held is an update that is newer than what is installed, and that this box does not take yet.
type held struct {
	Name   update.Name `json:"name"`
	Hold   trust.Hold  `json:"hold"`
	Reason string      `json:"reason"`
	Next   time.Time   `json:"next,omitzero"` // from when it takes it, as far as that is planned
}

// choice is what a box does now about what a repository lists.
type choice struct {
	Release trust.Release // to be installed; zero: none
	Held    []held        // newer than that, and not taken; the newest first, maxHeld at most
}

// chooser says which update a box takes.
type chooser struct {
	product  update.Product
	machine  string
	hardware string
	status   install.Status

	// downgrade lets the box go to the highest version that is listed although a higher one is installed.
	downgrade bool
}

// choose returns the highest version that the box may take at that time. Where the newest one needs
// another to be installed first, that is the one before; of one version in several formats the box
// takes the shortest.
func (c chooser) choose(repo *trust.Repository, at time.Time) choice {
	var out choice
	releases := repo.Releases()
	for i := len(releases) - 1; i >= 0; i-- {
		rel := releases[i]
		if !c.concerns(rel.Name()) {
			continue
		}
		v := c.verdict(rel, at)
		switch {
		case v.Hold == trust.HoldNone && (out.Release.IsZero() || sameVersion(rel, out.Release) && rel.Length() < out.Release.Length()):
			out.Release = rel
		case v.Hold != trust.HoldNone && out.Release.IsZero() && len(out.Held) < maxHeld:
			out.Held = append(out.Held, held{rel.Name(), v.Hold, v.Reason, v.Next})
		}
	}
	if !out.Release.IsZero() && c.installed(out.Release.Name()) {
		out.Release = trust.Release{} // the highest one is there
	}
	return out
}

// concerns reports whether an update is for this product, and not lower than it may be.
func (c chooser) concerns(n update.Name) bool {
	return n.Product() == c.product && (c.downgrade || n.Version().Compare(c.status.Version) > 0)
}

func (c chooser) installed(n update.Name) bool {
	return c.status.Installed != nil && n.Version().Compare(c.status.Version) == 0
}

func (c chooser) verdict(rel trust.Release, at time.Time) trust.Verdict {
	if reason, ok := c.status.SetAside(rel.Name()); ok {
		return trust.Verdict{Hold: holdFailed, Reason: "it failed here: " + reason}
	}
	if c.installed(rel.Name()) {
		return trust.Verdict{}
	}
	return rel.Takes(trust.Box{Machine: c.machine, Hardware: c.hardware, Installed: c.status.Version}, at)
}

func sameVersion(a, b trust.Release) bool { return a.Name().Version().Compare(b.Name().Version()) == 0 }
