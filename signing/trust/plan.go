package trust

import (
	"slices"
	"time"

	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/update"
)

// Plan says what a proposal changes, for a person to see before signing.
type Plan struct {
	Role     Role // RoleRoot or RoleTargets
	From, To int64

	FromExpires, ToExpires time.Time

	// Targets only; each ascends as the catalog does.
	Added     []Release
	Withdrawn []Release
	Changed   []ChangedRelease
	Rebound   []Binding // the names that had another digest

	// Root only: the roles that change, in the order of Roles.
	Holders []ChangedHolder
}

// ChangedRelease is an update whose conditions change.
type ChangedRelease struct{ From, To Release }

// ChangedHolder is a role whose keys or threshold change.
type ChangedHolder struct {
	Role                       Role
	AddedKeys, RemovedKeys     []keys.Public
	FromThreshold, ToThreshold int
}

// Empty reports whether the plan changes nothing but version and expiry.
func (p Plan) Empty() bool {
	return len(p.Added)+len(p.Withdrawn)+len(p.Changed)+len(p.Rebound)+len(p.Holders) == 0
}

func planTargets(known *Ledger, from, to map[update.Name]Release) Plan {
	p := Plan{Role: RoleTargets}
	for name, r := range to {
		old, ok := from[name]
		was, had := known.Digest(name)
		if ok { // what is published counts, whatever the ledger has
			was, had = old.Digest(), true
		}
		if had && was != r.Digest() {
			p.Rebound = append(p.Rebound, Binding{name, was, r.Digest()})
		}
		switch {
		case !ok:
			p.Added = append(p.Added, r)
		case !sameConditions(old, r):
			p.Changed = append(p.Changed, ChangedRelease{old, r})
		}
	}
	for name, r := range from {
		if _, ok := to[name]; !ok {
			p.Withdrawn = append(p.Withdrawn, r)
		}
	}
	slices.SortFunc(p.Added, compareReleases)
	slices.SortFunc(p.Withdrawn, compareReleases)
	slices.SortFunc(p.Changed, func(a, b ChangedRelease) int { return compareReleases(a.To, b.To) })
	slices.SortFunc(p.Rebound, func(a, b Binding) int { return compareReleases(to[a.Name], to[b.Name]) })
	return p
}

func sameConditions(a, b Release) bool {
	x, y := a.conditions, b.conditions
	return a.published.Equal(b.published) && x.MinVersion == y.MinVersion && slices.Equal(x.Hardware, y.Hardware) && x.Rollout.same(y.Rollout)
}

func planRoot(from, to *Root) Plan {
	p := Plan{Role: RoleRoot, From: from.version, To: to.version, FromExpires: from.expires, ToExpires: to.expires}
	for _, role := range Roles() {
		a, b := from.roles[role], to.roles[role]
		h := ChangedHolder{
			Role: role, FromThreshold: a.threshold, ToThreshold: b.threshold,
			AddedKeys: without(b.keys, a.keys), RemovedKeys: without(a.keys, b.keys),
		}
		if len(h.AddedKeys)+len(h.RemovedKeys) > 0 || a.threshold != b.threshold {
			p.Holders = append(p.Holders, h)
		}
	}
	return p
}

// without returns the keys of a that b hasn't.
func without(a, b []keys.Public) []keys.Public {
	return slices.DeleteFunc(slices.Clone(a), func(k keys.Public) bool { return slices.Contains(b, k) })
}
