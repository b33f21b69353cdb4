package update_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/openpowerquality/box-update-server/update"
)

// named returns updates of these names, each with a digest of its own.
func named(t testing.TB, names ...string) (updates []update.Update) {
	t.Helper()
	for i, s := range names {
		updates = append(updates, update.Update{
			Name:   must(t, update.ParseName, s),
			Digest: update.Sum([]byte(s)),
			Length: int64(i),
		})
	}
	return updates
}

func TestCatalogOrder(t *testing.T) {
	given := named(t, "b-5.tar.bz2", "a-1547861057.tar.zst", "a-5.tar.bz2", "a-5.tar.zst", "a-999999999.tar.bz2", "a-1547861057.tar.bz2", "a-1547861057.tar.gz")
	before := slices.Clone(given)
	c, err := update.NewCatalog(given, false)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, u := range c.Updates() {
		got = append(got, u.Name.String())
	}
	want := []string{"a-5.tar.zst", "a-5.tar.bz2", "b-5.tar.bz2", "a-999999999.tar.bz2", "a-1547861057.tar.zst", "a-1547861057.tar.gz", "a-1547861057.tar.bz2"}
	if !slices.Equal(got, want) {
		t.Errorf("order is\n\t%v\nwant\n\t%v", got, want)
	}
	if newest, ok := c.Newest(time.Now()); !ok || newest != before[5] {
		t.Errorf("newest is %v, %t, want %v", newest, ok, before[5])
	}
	if !slices.Equal(given, before) {
		t.Errorf("the caller's slice was changed to %v", given)
	}
}

func TestCatalogRefusesNameTwice(t *testing.T) {
	updates := named(t, "a-1.tar.gz", "a-2.tar.gz")
	updates[1].Name = updates[0].Name
	c, err := update.NewCatalog(updates, false)
	if c != nil || err == nil || err.Error() != "catalog: a-1.tar.gz stands twice" {
		t.Errorf("catalog is %v, error %v", c, err)
	}
}

func TestEmptyCatalog(t *testing.T) {
	had, err := update.NewCatalog(nil, true)
	if err != nil {
		t.Fatal(err)
	}
	never, err := update.NewCatalog(nil, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		catalog *update.Catalog
		had     bool
	}{{"zero", new(update.Catalog), false}, {"never had", never, false}, {"had", had, true}} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.catalog.HadUpdates(); got != c.had {
				t.Errorf("HadUpdates is %t, want %t", got, c.had)
			}
			if u, ok := c.catalog.Newest(time.Now()); ok {
				t.Errorf("newest is %v", u)
			}
			if u, ok := c.catalog.Lookup(must(t, update.ParseName, goodName)); ok {
				t.Errorf("found %v by name", u)
			}
			if u, ok := c.catalog.ByDigest(update.Sum(nil)); ok {
				t.Errorf("found %v by digest", u)
			}
			if got := c.catalog.Updates(); len(got) != 0 {
				t.Errorf("updates are %v", got)
			}
		})
	}
}

func TestCatalogWithUpdatesHadUpdates(t *testing.T) {
	c, err := update.NewCatalog(named(t, goodName), false)
	if err != nil {
		t.Fatal(err)
	}
	if !c.HadUpdates() {
		t.Error("a catalog with an update never had one")
	}
}

func TestUnknownDigestFindsNothing(t *testing.T) {
	updates := named(t, goodName)
	updates[0].Digest = update.Digest{}
	c, err := update.NewCatalog(updates, false)
	if err != nil {
		t.Fatal(err)
	}
	if u, ok := c.ByDigest(update.Digest{}); ok {
		t.Errorf("the zero digest finds %v", u)
	}
	if u, ok := c.Lookup(updates[0].Name); !ok || u != updates[0] {
		t.Errorf("by name there is %v, %t", u, ok)
	}
}

func TestCatalogFinds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		updates := drawUpdates(t)
		c, err := update.NewCatalog(updates, false)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Updates(); len(got) != len(updates) || !slices.IsSortedFunc(got, before) {
			t.Errorf("updates are %v", got)
		}
		for _, u := range updates {
			if got, ok := c.Lookup(u.Name); !ok || got != u {
				t.Errorf("%v is %v, %t, want %v", u.Name, got, ok, u)
			}
			got, ok := c.ByDigest(u.Digest)
			if want, known := newestOf(updates, u.Digest); ok != known || got != want {
				t.Errorf("digest %v is %v, %t, want %v, %t", u.Digest, got, ok, want, known)
			}
		}
	})
}

// drawUpdates draws updates of few versions, products and digests; one digest is not known.
func drawUpdates(t *rapid.T) []update.Update {
	digests := []update.Digest{{}, update.Sum([]byte{1}), update.Sum([]byte{2})}
	one := rapid.Custom(func(t *rapid.T) update.Update {
		n, err := update.ParseName(fmt.Sprintf("%s-%d.%s",
			rapid.SampledFrom([]string{"a", "b"}).Draw(t, "product"),
			rapid.IntRange(8, 11).Draw(t, "version"),
			rapid.SampledFrom([]string{"tar.bz2", "tar.gz", "tar.zst"}).Draw(t, "format")))
		if err != nil {
			t.Fatal(err)
		}
		return update.Update{Name: n, Digest: rapid.SampledFrom(digests).Draw(t, "digest")}
	})
	return rapid.SliceOfDistinct(one, func(u update.Update) update.Name { return u.Name }).Draw(t, "updates")
}

// before orders updates by version as a number and then by name, both as they are documented.
func before(a, b update.Update) int {
	if c := a.Name.Version().Compare(b.Name.Version()); c != 0 {
		return c
	}
	return a.Name.Compare(b.Name)
}

// newestOf returns the newest update with that digest, unless it is the zero one.
func newestOf(updates []update.Update, d update.Digest) (newest update.Update, ok bool) {
	for _, u := range updates {
		if u.Digest == d && !d.IsZero() && (!ok || before(u, newest) > 0) {
			newest, ok = u, true
		}
	}
	return newest, ok
}

// What only some boxes may install is passed over, until it is for all.
func TestNewestIsForEveryBox(t *testing.T) {
	updates := named(t, "a-1.tar.gz", "a-2.tar.gz", "a-3.tar.gz", "a-4.tar.gz")
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	later, latest := now.Add(time.Hour), now.Add(2*time.Hour)
	updates[1].Limited, updates[1].Until = true, later
	updates[2].Limited, updates[2].Until = true, latest
	updates[3].Limited = true
	c, err := update.NewCatalog(updates, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		at   time.Time
		want int
		next time.Time
	}{
		{now, 0, later},
		{later.Add(-1), 0, later},
		{later, 1, latest},
		{latest.Add(-1), 1, latest},
		{latest, 2, time.Time{}},
		{latest.Add(1e6 * time.Hour), 2, time.Time{}},
	} {
		if u, ok := c.Newest(test.at); !ok || u != updates[test.want] {
			t.Errorf("at %v: newest is %v, %t, want %v", test.at, u.Name, ok, updates[test.want].Name)
		}
		if next := c.NextChange(test.at); !next.Equal(test.next) {
			t.Errorf("at %v: next change at %v, want %v", test.at, next, test.next)
		}
	}
	only, err := update.NewCatalog(updates[3:], false)
	if err != nil {
		t.Fatal(err)
	}
	if u, ok := only.Newest(latest); ok || !only.HadUpdates() {
		t.Errorf("newest is %v of a catalog without one for every box", u.Name)
	}
}
