package box

import (
	"fmt"
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
	"github.com/openpowerquality/box-update-server/update/install"
)

// maxHeld bounds how many held updates a choice names.
const maxHeld = 5

// holdFailed says that this box set an update aside, because its installation failed.
const holdFailed trust.Hold = "set aside"

// holdMetered says that another update comes first, because a part of it is here already.
const holdMetered trust.Hold = "after another"

// Held is an update that is newer than the installed one, and that this box does not take yet.
type Held struct {
	Name   update.Name `json:"name"`
	Hold   trust.Hold  `json:"hold"`
	Reason string      `json:"reason"`
	Next   time.Time   `json:"next,omitzero"` // when the box will take it; zero: not known
}

// choice is which update of a repository a box takes now.
type choice struct {
	Release trust.Release // the update to install; zero: none
	Held    []Held        // newer updates that the box does not take; the newest first, at most maxHeld
}

// chooser says which update a box takes.
type chooser struct {
	product update.Product
	box     trust.Box
	status  install.Status

	// downgrade lets the box take the highest listed version although a higher one is installed.
	downgrade bool

	// part is how much of an update is here already on a metered link; zero: nothing, or the link is not metered.
	part part
}

// choose chooses the highest version that the box may take at that time. An update that needs another one to be
// installed first is held until then. Of one version in several formats, the box takes the shortest archive.
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
			out.Held = append(out.Held, Held{rel.Name(), v.Hold, v.Reason, v.Next})
		}
	}
	if !out.Release.IsZero() && c.installed(out.Release.Name()) {
		out.Release = trust.Release{} // the highest version is installed
	}
	c.preferPart(&out, releases, at)
	return out
}

// preferPart replaces the choice by an older update of which a part is here, if less of that is missing. Without it, a
// box with a small daily cap could begin anew with each newer update, and never complete one.
func (c chooser) preferPart(out *choice, releases []trust.Release, at time.Time) {
	newest := out.Release
	if newest.IsZero() {
		return
	}
	for _, rel := range releases {
		if c.part.missing(rel) >= c.part.missing(newest) || rel.Digest() != c.part.Digest || !c.concerns(rel.Name()) || c.verdict(rel, at).Hold != trust.HoldNone {
			continue
		}
		out.Release = rel
		if !sameVersion(rel, newest) && len(out.Held) < maxHeld {
			out.Held = append(out.Held, Held{Name: newest.Name(), Hold: holdMetered, Reason: fmt.Sprintf(
				"%v comes first: it lacks only %d bytes, and max_bytes_per_day limits downloads", rel.Name(), c.part.missing(rel))})
		}
		return
	}
}

// concerns reports whether an update is of this product, and newer than the installed one unless downgrade is set.
func (c chooser) concerns(n update.Name) bool {
	return n.Product() == c.product && (c.downgrade || n.Version().Compare(c.status.Version) > 0)
}

func (c chooser) installed(n update.Name) bool {
	return c.status.Installed != nil && n.Version().Compare(c.status.Version) == 0
}

func (c chooser) verdict(rel trust.Release, at time.Time) trust.Verdict {
	if reason, ok := c.status.SetAside(rel.Name(), rel.Digest()); ok {
		return trust.Verdict{Hold: holdFailed, Reason: "it failed on this box: " + reason}
	}
	if c.installed(rel.Name()) {
		return trust.Verdict{}
	}
	return rel.Evaluate(c.box, at)
}

func sameVersion(a, b trust.Release) bool { return a.Name().Version().Compare(b.Name().Version()) == 0 }
