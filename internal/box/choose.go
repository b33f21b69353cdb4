package box

import (
	"fmt"
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
	"github.com/openpowerquality/box-update-server/update/install"
)

// maxHeld bounds how many updates are named that this box does not take.
const maxHeld = 5

// holdFailed says that an update was set aside here, because it failed.
const holdFailed trust.Hold = "set aside"

// holdMetered says that another update comes first, of which a part is here.
const holdMetered trust.Hold = "after another"

// Held is an update that is newer than what is installed, and that this box does not take yet.
type Held struct {
	Name   update.Name `json:"name"`
	Hold   trust.Hold  `json:"hold"`
	Reason string      `json:"reason"`
	Next   time.Time   `json:"next,omitzero"` // from when it takes it, as far as that is planned
}

// choice is what a box does now about what a repository lists.
type choice struct {
	Release trust.Release // to be installed; zero: none
	Held    []Held        // newer than that, and not taken; the newest first, maxHeld at most
}

// chooser says which update a box takes.
type chooser struct {
	product  update.Product
	machine  string
	hardware string
	status   install.Status

	// downgrade lets the box go to the highest version that is listed although a higher one is installed.
	downgrade bool

	// part is what is here of an update on a metered link; zero: nothing, or the link is not metered.
	part part
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
			out.Held = append(out.Held, Held{rel.Name(), v.Hold, v.Reason, v.Next})
		}
	}
	if !out.Release.IsZero() && c.installed(out.Release.Name()) {
		out.Release = trust.Release{} // the highest one is there
	}
	c.preferPart(&out, releases, at)
	return out
}

// preferPart chooses the update of which a part is here rather than a newer one, where less of it is missing. Else a box
// whose share of a day is small would begin anew with each update that comes before the last one has arrived, and
// never install any.
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
				"%v comes first, of which %d bytes are missing, and max_bytes_per_day holds", rel.Name(), c.part.missing(rel))})
		}
		return
	}
}

// concerns reports whether an update is for this product, and not lower than it may be.
func (c chooser) concerns(n update.Name) bool {
	return n.Product() == c.product && (c.downgrade || n.Version().Compare(c.status.Version) > 0)
}

func (c chooser) installed(n update.Name) bool {
	return c.status.Installed != nil && n.Version().Compare(c.status.Version) == 0
}

func (c chooser) verdict(rel trust.Release, at time.Time) trust.Verdict {
	if reason, ok := c.status.SetAside(rel.Name(), rel.Digest()); ok {
		return trust.Verdict{Hold: holdFailed, Reason: "it failed here: " + reason}
	}
	if c.installed(rel.Name()) {
		return trust.Verdict{}
	}
	return rel.Takes(trust.Box{Machine: c.machine, Hardware: c.hardware, Installed: c.status.Version}, at)
}

func sameVersion(a, b trust.Release) bool { return a.Name().Version().Compare(b.Name().Version()) == 0 }
