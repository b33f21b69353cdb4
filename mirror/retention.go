package mirror

import (
	"slices"
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// Retention says which of the listed updates a mirror keeps. The zero Retention keeps all. If both limits are set, an
// update is kept if either of them keeps it.
//
// Of each product, the newest update that every box may install is always kept, because most boxes need it. When a
// rollout ends after the list was signed, its predecessor is kept until the next list.
type Retention struct {
	// Newest is how many of the newest versions of each product are kept; 0: no such limit.
	Newest int

	// Since keeps updates that were published then or later; zero: no such limit.
	Since time.Time
}

// Kept returns the releases of a repository that are kept; see store.Config.Kept. The result does not depend on the time.
func (t Retention) Kept(r *trust.Repository) []trust.Release {
	releases := r.Releases()
	if t.Newest <= 0 && t.Since.IsZero() {
		return releases
	}
	// Use the times in the repository, since the local clock may be off. With the online key's time alone, its thief
	// could end a rollout, and so drop what most boxes still need. The release keys' time never passes the signing.
	clocks := [...]time.Time{r.Issued(trust.RoleTimestamp), r.Issued(trust.RoleTargets)}
	products := map[update.Product]*productKept{}
	var out []trust.Release
	for _, rel := range newestFirst(releases) {
		p := products[rel.Name().Product()]
		if p == nil {
			p = &productKept{}
			products[rel.Name().Product()] = p
		}
		if t.keeps(p, rel, clocks) {
			out = append(out, rel)
		}
	}
	slices.Reverse(out)
	return out
}

// productKept is what is known of a product, from its newest version down to the current one.
type productKept struct {
	versions int // different ones
	last     update.Version
	forAll   [2]update.Version // the newest that every box may install, by each time; zero: none yet
}

// keeps decides on the next older release of a product.
func (t Retention) keeps(p *productKept, rel trust.Release, clocks [2]time.Time) bool {
	if v := rel.Name().Version(); p.versions == 0 || v.Compare(p.last) != 0 {
		p.versions, p.last = p.versions+1, v
	}
	kept := t.Newest > 0 && p.versions <= t.Newest || !t.Since.IsZero() && !rel.Published().Before(t.Since)
	for i, at := range clocks {
		if p.forAll[i].IsZero() && rel.ForEveryBox(at) {
			p.forAll[i] = p.last
		}
		kept = kept || !p.forAll[i].IsZero() && p.forAll[i].Compare(p.last) == 0
	}
	return kept
}

func newestFirst(releases []trust.Release) []trust.Release {
	slices.SortFunc(releases, func(a, b trust.Release) int {
		return b.Name().CompareByVersion(a.Name())
	})
	return releases
}
