package mirror

import (
	"slices"
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// Retention says which of the updates that are listed a mirror keeps. The zero Retention keeps
// everything. Where both limits are set, an update is kept that either of them keeps.
//
// Of each product the newest update that every box may install is kept in any case: it is the one that
// boxes are sent to. A rollout that ended after the list was signed does not let its predecessor go before the next list.
type Retention struct {
	// Newest is of how many versions of each product, counted from the newest, the updates are kept;
	// 0: no such limit.
	Newest int

	// Since is from when on published updates are kept; zero: no such limit.
	Since time.Time
}

// Kept returns the releases of a repository that are kept. It is what store.Config.Kept takes. The same
// repository gives the same releases, whatever the time.
func (t Retention) Kept(r *trust.Repository) []trust.Release {
	releases := r.Releases()
	if t.Newest <= 0 && t.Since.IsZero() {
		return releases
	}
	// The clocks of the repository: this one may be off. That of the online key alone would let its thief end a rollout,
	// and so drop what most boxes still need; that of the release keys knows of no time after the list was signed.
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

// productKept is what was seen of a product so far, from the newest on.
type productKept struct {
	versions int // different ones
	last     update.Version
	forAll   [2]update.Version // by each clock the newest that every box may install; zero: not seen yet
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
