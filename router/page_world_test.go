package router

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// noon is when the worlds of these tests are looked at.
func noon() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// A world is all that a status page is made of.
type world struct {
	catalog    *update.Catalog
	standing   status.Standing
	conditions map[string]trust.Conditions
	components []status.Component
	signed     map[string][]trust.KeySignature

	looked atomic.Int64 // how often Standing was asked
	now    atomic.Pointer[time.Time]
}

func (w *world) Standing() status.Standing {
	w.looked.Add(1)
	return w.standing
}

func (w *world) Conditions(u update.Update) trust.Conditions { return w.conditions[u.Name.String()] }
func (w *world) Components() []status.Component              { return w.components }

func (w *world) Signatures(u update.Update) []trust.KeySignature { return w.signed[u.Name.String()] }

func (w *world) clock() time.Time {
	if at := w.now.Load(); at != nil {
		return *at
	}
	return noon()
}

func (w *world) later(d time.Duration) {
	at := w.clock().Add(d)
	w.now.Store(&at)
}

// worldSource is a Source that has a catalog and no files.
type worldSource struct {
	*fake
	world *world
}

func (s worldSource) Catalog() *update.Catalog { return s.world.catalog }

func (w *world) config(t testing.TB) Config {
	t.Helper()
	return Config{Source: worldSource{newFake(t), w}, Signatures: w.Signatures, Components: w.Components, Standing: w.Standing, Conditions: w.Conditions, Version: "1.4.0", Now: w.clock}
}

const worldKey = keys.ID("74c181c7ad8a0855d4b55e44d2ba87aabdddb196832571f15f92fece332e4916")

// newWorld is an origin with so many signed updates, all in order.
func newWorld(t testing.TB, updates int) *world {
	t.Helper()
	w := &world{conditions: map[string]trust.Conditions{}, signed: map[string][]trust.KeySignature{}}
	var list []update.Update
	for i := range updates {
		at := noon().Add(-time.Duration(updates-i) * 31 * time.Hour)
		u := update.Update{Name: testworld.Name(fmt.Sprintf("opq-box-update-%d.tar.bz2", at.Unix())), Time: at,
			Length: 1 << 20 * int64(1+i*7%13), Digest: update.Sum(fmt.Append(nil, i))}
		list = append(list, u)
		w.signed[u.Name.String()] = []trust.KeySignature{{Key: worldKey, Signature: signing.Signature{1}}}
	}
	w.catalogOf(t, list)
	w.components = []status.Component{{Name: "repository"}}
	w.standing = status.Standing{StoreBytes: 734_003_200, FreeBytes: 41_875_931_136}
	for _, r := range []struct {
		role    trust.Role
		version int64
		life    time.Duration
		age     time.Duration
	}{
		{trust.RoleRoot, 2, trust.RootLife, 90 * 24 * time.Hour},
		{trust.RoleTargets, 57, trust.TargetsLife, 31 * time.Hour},
		{trust.RoleSnapshot, 61, trust.SnapshotLife, 31 * time.Hour},
		{trust.RoleTimestamp, 412, trust.TimestampLife, 31 * time.Hour},
	} {
		issued := noon().Add(-r.age)
		w.standing.Files = append(w.standing.Files, status.File{Role: string(r.role), Version: r.version, Issued: issued, Expires: issued.Add(r.life)})
	}
	return w
}

func (w *world) catalogOf(t testing.TB, list []update.Update) {
	t.Helper()
	c, err := update.NewCatalog(list, false)
	if err != nil {
		t.Fatal(err)
	}
	w.catalog = c
}

// newest returns the update with the highest version.
func (w *world) newest() update.Update {
	all := w.catalog.Updates()
	return all[len(all)-1]
}

// mirrored makes a mirror of a world.
func (w *world) mirrored() *status.Freshness {
	w.standing.Copy = &status.Freshness{
		Synced: true, Checked: noon().Add(-4 * time.Minute), Complete: noon().Add(-4 * time.Minute), Succeeded: 3, Failed: 1,
		Upstreams: []status.Upstream{
			{URL: "https://updates.example", Checked: noon().Add(-4 * time.Minute), Received: 734_003_200},
			{URL: "https://other.example/box-update-server", Reason: "unavailable"},
		},
		History: []status.Sync{
			{At: noon().Add(-4 * time.Minute), Took: 400 * time.Millisecond},
			{At: noon().Add(-9 * time.Minute), Took: 95 * time.Second, Archives: 2, Bytes: 8_400_000},
			{At: noon().Add(-14 * time.Minute), Took: 30 * time.Second, Reason: "unavailable"},
		},
	}
	return w.standing.Copy
}

// healthyWorld is a mirror in order, with one update that goes out in steps.
func healthyWorld(t testing.TB) *world {
	w := newWorld(t, 12)
	w.mirrored()
	u := w.newest()
	w.conditions[u.Name.String()] = trust.Conditions{Rollout: &trust.Rollout{Steps: []trust.Step{{Percent: 5}, {After: 24 * time.Hour, Percent: 25}, {After: 72 * time.Hour, Percent: 100}}}}
	list := append([]update.Update{}, w.catalog.Updates()...)
	list[11].Limited, list[11].Until = true, u.Time.Add(72*time.Hour)
	w.catalogOf(t, list)
	return w
}

// staleWorld is a mirror whose upstream is gone.
func staleWorld(t testing.TB) *world {
	w := newWorld(t, 12)
	s := w.mirrored()
	s.SecondsBehind, s.UpdatesBehind, s.Reason, s.Since = 2*3600+1800, 3, "unavailable", noon().Add(-140*time.Minute)
	s.Complete, s.Checked = noon().Add(-150*time.Minute), noon().Add(-145*time.Minute)
	s.Upstreams[0].Reason = "unavailable"
	s.History = append([]status.Sync{{At: noon().Add(-time.Minute), Took: 30 * time.Second, Reason: "unavailable"}}, s.History...)
	w.components[0].Warnings = []status.Warning{
		{Subject: "sync", Text: "no sync went well since 2026-03-01T09:40:00Z; what is there is served: unavailable, https://updates.example"},
		{Subject: "behind", Text: "3 updates and 2h30m0s behind the upstream, snapshot 61 of 64"},
	}
	return w
}

// expiredWorld is a stale one that boxes refuse by now.
func expiredWorld(t testing.TB) *world {
	w := staleWorld(t)
	r := &w.standing.Files[3]
	r.Issued, r.Expires = noon().Add(-9*24*time.Hour), noon().Add(-2*24*time.Hour)
	w.components[0].Warnings = append([]status.Warning{{Subject: "expiry", Urgent: true, Text: "timestamp 412 expired at 2026-02-27T12:00:00Z, from when on boxes refuse it: see to the origin, or to the way there"}}, w.components[0].Warnings...)
	return w
}

// emptyWorld is a repository of which nobody has published anything.
func emptyWorld(t testing.TB) *world {
	w := newWorld(t, 0)
	w.standing.StoreBytes = 0
	return w
}

// markup is what must be shown as text, wherever it comes from.
const markup = `<img src=x onerror="window.hostile=1"><script>window.hostile=1</script>'"&{{.}}`

// hostileWorld has markup wherever text comes from outside.
func hostileWorld(t testing.TB) *world {
	w := healthyWorld(t)
	w.components = []status.Component{{Name: markup, Warnings: []status.Warning{{Urgent: true, Text: "no update: opq-box-update-" + markup + ".tar.bz2\njavascript:alert(1)"}}}}
	s := w.standing.Copy
	s.Upstreams = []status.Upstream{{URL: "https://" + markup, Reason: markup}}
	s.History[0].Reason, s.Reason, s.Since = markup, markup, noon().Add(-time.Hour)
	w.conditions[w.newest().Name.String()] = trust.Conditions{Hardware: []string{markup}}
	w.signed[w.newest().Name.String()] = []trust.KeySignature{{Key: keys.ID(markup + strings.Repeat("x", 64))}}
	return w
}
