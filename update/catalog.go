package update

import (
	"fmt"
	"slices"
	"sort"
	"time"
)

// Update is what a catalog says of one archive.
type Update struct {
	Name   Name
	Digest Digest    // zero while it is not known: the archive has not been hashed yet
	Length int64     // bytes
	Time   time.Time // when it was published; for a file in a plain directory, its modification time

	// Limited says that only some boxes may install the update, until the time Until; a zero Until
	// means for good.
	Limited bool
	Until   time.Time

	// Unsigned says that the update lies beside a list of signed ones and is not in it.
	Unsigned bool
}

// ForEveryBox reports whether, at that time, every box may install the update.
func (u Update) ForEveryBox(at time.Time) bool {
	return !u.Limited || !u.Until.IsZero() && !at.Before(u.Until)
}

// Catalog says which updates exist. It is immutable and safe for concurrent use. The zero Catalog has
// no update and never had one.
type Catalog struct {
	updates  []Update // ascending by Name
	byName   map[Name]int
	byDigest map[Digest]int
	had      bool
}

// NewCatalog returns the catalog of the given updates. had says whether there ever was an update, for
// a catalog that is empty now: a box that asks such a catalog is told to come back later, not that
// there is nothing. A name that stands twice is refused.
func NewCatalog(updates []Update, had bool) (*Catalog, error) {
	c := &Catalog{
		updates:  slices.Clone(updates),
		byName:   make(map[Name]int, len(updates)),
		byDigest: make(map[Digest]int, len(updates)),
		had:      had || len(updates) > 0,
	}
	// slices.SortFunc would make boxup 20 kB larger.
	sort.Slice(c.updates, func(i, j int) bool { return c.updates[i].Name.CompareByVersion(c.updates[j].Name) < 0 })
	for i, u := range c.updates {
		if _, twice := c.byName[u.Name]; twice {
			return nil, fmt.Errorf("catalog: %v stands twice", u.Name)
		}
		c.byName[u.Name] = i
		if !u.Digest.IsZero() {
			c.byDigest[u.Digest] = i // the newest of several names stays
		}
	}
	return c, nil
}

// Updates returns all updates, ascending by version. The caller must not change the slice.
func (c *Catalog) Updates() []Update { return c.updates }

// HadUpdates reports whether the catalog has or ever had an update.
func (c *Catalog) HadUpdates() bool { return c.had }

// Lookup returns the update of that name.
func (c *Catalog) Lookup(n Name) (Update, bool) {
	i, ok := c.byName[n]
	if !ok {
		return Update{}, false
	}
	return c.updates[i], true
}

// ByDigest returns the update with that digest, the newest where there are several names for it. The
// zero Digest finds nothing.
func (c *Catalog) ByDigest(d Digest) (Update, bool) {
	i, ok := c.byDigest[d]
	if !ok {
		return Update{}, false
	}
	return c.updates[i], true
}

// Newest returns the update that every box may install at that time: the one with the highest version,
// and of several formats the one that every box unpacks.
func (c *Catalog) Newest(at time.Time) (Update, bool) {
	for _, u := range slices.Backward(c.updates) {
		if u.ForEveryBox(at) {
			return u, true
		}
	}
	return Update{}, false
}

// NextChange returns the first time after at at which an update is for every box that was not before;
// zero where there is none.
func (c *Catalog) NextChange(at time.Time) (next time.Time) {
	for _, u := range c.updates {
		if u.Until.After(at) && (next.IsZero() || u.Until.Before(next)) {
			next = u.Until
		}
	}
	return next
}
