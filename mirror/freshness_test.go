package mirror_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/mirror"
	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/store"
)

// TestHealthDuringFirstSync: a mirror that is ready has no warning that it isn't, at whatever moment of a sync it is asked.
func TestHealthDuringFirstSync(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one)
	for range 20 {
		m := o.newMirror(setup{})
		done := make(chan error)
		go func() {
			_, err := m.Sync(t.Context())
			done <- err
		}()
		for f := (status.Freshness{}); !f.Synced; {
			var w []status.Warning
			f, w = m.Health(o.at)
			if warned := slices.ContainsFunc(w, func(w status.Warning) bool { return w.Subject == "sync" }); warned == f.Synced {
				t.Errorf("synced: %v, with %v", f.Synced, w)
			}
		}
		must(t, <-done)
	}
}

// TestNotSynced: before the first sync a mirror has nothing, and says so.
func TestNotSynced(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one)
	m := o.newMirror(setup{upstreams: []string{"http://127.0.0.1:1"}})
	if m.Freshness(o.at).Ready() {
		t.Error("expected it not ready")
	}
	m.syncFails(fetch.ErrUnavailable)
	f := m.Freshness(o.at)
	if f.Synced || f.Own != (status.Versions{}) || f.Error == "" || !f.Checked.IsZero() || !f.Expires.IsZero() {
		t.Errorf("expected nothing but an error, got %+v", f)
	}
	if w := warnings(m, o.at); len(w) != 1 || !w[0].Urgent || !strings.Contains(w[0].Text, "not synced") || !strings.HasSuffix(w[0].Text, ": unavailable, http://127.0.0.1:1") {
		t.Errorf("expected one urgent warning with the reason, got %v", w)
	}
	if !m.s.Catalog().HadUpdates() {
		t.Error("boxes must not take it for a server without updates")
	}
}

// TestBehind: a mirror that can't complete a newer repository tells how far behind it is.
func TestBehind(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one)
	p := newProxy(t, o.url)
	m := o.newMirror(setup{upstreams: []string{p.url}})
	m.sync()
	p.answers(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/sha256/") && !strings.HasPrefix(r.URL.Path, "/targets/") {
			return false
		}
		http.NotFound(w, r)
		return true
	})
	o.at = day.Add(time.Hour)
	o.publish(two)
	first := o.s.Repository().Versions()
	o.at = day.Add(2 * time.Hour)
	m.syncFails(fetch.ErrNotFound)
	f := m.Freshness(o.at)
	if f.Upstream != first || f.Own == first || f.UpdatesBehind != 1 || f.SecondsBehind != 3600 || !f.Checked.Equal(o.at) || !f.Complete.Equal(day) {
		t.Errorf("expected an update and an hour behind, got %+v", f)
	}
	o.publish(three)
	o.at = day.Add(3 * time.Hour)
	m.syncFails(fetch.ErrNotFound)
	f = m.Freshness(o.at)
	if f.UpdatesBehind != 2 || f.SecondsBehind != 7200 {
		t.Errorf("expected two updates and two hours behind, got %+v", f)
	}
	if w := warnings(m, o.at); len(w) != 2 || w[1].Subject != "behind" || !strings.Contains(w[1].Text, "2 updates and 2h0m0s") {
		t.Errorf("expected it said, got %v", w)
	}
	// Another process, and the next one, know the same.
	reader, err := store.OpenReadOnly(t.Context(), store.Config{Dir: m.s.Dir(), Root: o.rootOne()})
	must(t, err)
	other, _, err := mirror.ReadHealth(reader, 0, o.at)
	must(t, err)
	if asJSON(t, other) != asJSON(t, f) {
		t.Errorf("expected another process to read\n%s, got\n%s", asJSON(t, f), asJSON(t, other))
	}
	again, _ := newMirror(t, m.s, func() time.Time { return o.at }, []string{p.url}, nil)
	if got := again.Freshness(o.at); asJSON(t, got) != asJSON(t, f) {
		t.Errorf("expected the next process to know\n%s, got\n%s", asJSON(t, f), asJSON(t, got))
	}
	p.answers(nil)
	m.sync()
	if f := m.Freshness(o.at); f.UpdatesBehind != 0 || f.SecondsBehind != 0 || f.Own != f.Upstream || f.Own != o.s.Repository().Versions() {
		t.Errorf("expected it up to date, got %+v", f)
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	must(t, err)
	return string(raw)
}

// TestExpiry: a mirror whose metadata run out says so in time, and is not ready when they have.
func TestExpiry(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one)
	m := o.newMirror(setup{})
	m.sync()
	expires := day.Add(trust.TimestampLife)
	if f := m.Freshness(day); !f.Expires.Equal(expires) || f.Expiring != string(trust.RoleTimestamp) || f.Expired {
		t.Errorf("expected the timestamp to expire first, got %+v", f)
	}
	for _, c := range []struct {
		at             time.Time
		warned, expire bool
	}{
		{day.Add(trust.TimestampLife * 3 / 4).Add(-time.Second), false, false},
		{day.Add(trust.TimestampLife * 3 / 4), true, false},
		{expires, true, false},
		{expires.Add(time.Second), true, true},
	} {
		var about []status.Warning
		for _, w := range warnings(m, c.at) {
			if w.Subject == "expiry" {
				about = append(about, w)
			}
		}
		if warned := len(about) == 1 && about[0].Urgent; warned != c.warned {
			t.Errorf("%v: expected a warning: %v, got %v", c.at, c.warned, about)
		}
		if expired := m.Freshness(c.at).Expired; expired != c.expire || m.Freshness(c.at).Ready() == c.expire {
			t.Errorf("%v: expected it expired: %v, got %v", c.at, c.expire, expired)
		}
	}
}

// TestSilence: a mirror that has not asked for long says so.
func TestSilence(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one)
	m := o.newMirror(setup{})
	m.sync()
	if w := warnings(m, day.Add(15*time.Minute)); len(w) != 0 {
		t.Errorf("expected nothing to say after three intervals, got %v", w)
	}
	if w := warnings(m, day.Add(16*time.Minute)); len(w) != 1 || !strings.Contains(w[0].Text, "2026-03-01T12:00:00Z") {
		t.Errorf("expected a warning that names the time, got %v", w)
	}
	must(t, os.Remove(filepath.Join(m.s.Dir(), "mirror.json")))
	again, _ := newMirror(t, m.s, func() time.Time { return o.at }, []string{o.url}, nil)
	if w := warnings(again, o.at); len(w) != 1 || !strings.Contains(w[0].Text, "no upstream was asked yet") {
		t.Errorf("expected a warning, got %v", w)
	}
}

// TestFreshnessJSON is what programs read.
func TestFreshnessJSON(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one)
	m := o.newMirror(setup{})
	m.sync()
	want := `{"synced":true,"own":{"root":1,"targets":2,"snapshot":2,"timestamp":2},"upstream":{"root":1,"targets":2,"snapshot":2,"timestamp":2},` +
		`"updates_behind":0,"seconds_behind":0,"checked":"2026-03-01T12:00:00Z","complete":"2026-03-01T12:00:00Z",` +
		`"expires":"2026-03-08T12:00:00Z","expiring":"timestamp","expired":false,` +
		`"upstreams":[{"url":"` + o.url + `","versions":{"root":1,"targets":2,"snapshot":2,"timestamp":2},"checked":"2026-03-01T12:00:00Z","behind":false}]}`
	if got := asJSON(t, m.Freshness(o.at)); got != want {
		t.Errorf("expected\n%s, got\n%s", want, got)
	}
}

// TestDamagedRecord costs nothing but the past.
func TestDamagedRecord(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one)
	for _, raw := range []string{"", "{", `{"checked":7}`, `[]`, `{"error":"` + strings.Repeat("x", 300_000) + `"}`} {
		m := o.newMirror(setup{})
		must(t, os.WriteFile(filepath.Join(m.s.Dir(), "mirror.json"), []byte(raw), 0o600))
		must(t, disk.FS{}.Remove(filepath.Join(m.s.Dir(), "mirror.json.copy")))
		_, read, err := mirror.ReadHealth(m.s, 0, o.at)
		if err != nil || !tellsOfDamage(read) {
			t.Errorf("%.20q: expected a warning, got %v, %v", raw, read, err)
		}
		again, _ := newMirror(t, m.s, func() time.Time { return o.at }, []string{o.url}, nil)
		if told := warnings(again, o.at); !slices.Equal(told, read) {
			t.Errorf("%.20q: the mirror says %v, the directory %v", raw, told, read)
		}
		_, err = again.Sync(t.Context())
		must(t, err)
		if tellsOfDamage(warnings(again, o.at)) {
			t.Errorf("%.20q: expected the warning gone", raw)
		}
		if f, _, err := mirror.ReadHealth(m.s, 0, o.at); err != nil || !f.Complete.Equal(o.at) {
			t.Errorf("%.20q: expected it replaced, got %+v, %v", raw, f, err)
		}
	}
}

func tellsOfDamage(ws []status.Warning) bool {
	return slices.ContainsFunc(ws, func(w status.Warning) bool { return strings.Contains(w.Text, "the disk damaged mirror.json") })
}

// TestLongErrorsAreCut, in what is told and kept.
func TestLongErrorsAreCut(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one)
	var upstreams []string
	for i := range 64 {
		upstreams = append(upstreams, "http://127.0.0.1:1/"+strings.Repeat("a", 100)+strings.Repeat("b", i))
	}
	m := o.newMirror(setup{upstreams: upstreams})
	_, err := m.Sync(t.Context())
	if f := m.Freshness(o.at); err == nil || len(f.Error) != 2000 || strings.Contains(f.Error, "\n") {
		t.Errorf("expected one line of 2000 bytes, got %d", len(f.Error))
	}
}

// patient makes a mirror whose syncs don't give up.
func (o *origin) patient(dir string, upstreams ...string) *site {
	o.t.Helper()
	s := openStore(o.t, store.Config{Dir: dir, Root: o.rootOne()})
	client, err := fetch.New(fetch.Config{Upstreams: upstreams, Patience: time.Hour, Backoff: time.Millisecond, MaxBackoff: 5 * time.Millisecond})
	must(o.t, err)
	o.t.Cleanup(client.Close)
	m, err := mirror.New(mirror.Config{Store: s, Client: client, Now: func() time.Time { return o.at }})
	must(o.t, err)
	return &site{Mirror: m, o: o, s: s, client: client}
}

// TestDownWhileASyncIsPatient: long before a sync gives up, everybody can see what it waits for.
func TestDownWhileASyncIsPatient(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one)
	p := newProxy(t, o.url)
	down := func(w http.ResponseWriter, _ *http.Request) bool {
		http.Error(w, "down", http.StatusServiceUnavailable)
		return true
	}
	m := o.patient(testworld.TempDir(t), p.url)
	for _, phase := range []struct {
		name string
		down func(w http.ResponseWriter, r *http.Request) bool
		n    string // is published
	}{
		{"the first sync", down, two},
		{"a later one", down, three},
		{"archives alone", func(w http.ResponseWriter, r *http.Request) bool {
			return !strings.HasPrefix(r.URL.Path, "/metadata/") && down(w, r)
		}, big},
	} {
		o.publish(phase.n)
		p.answers(phase.down)
		synced := make(chan error, 1)
		go func() {
			_, err := m.Sync(t.Context())
			synced <- err
		}()
		waitFor(t, "freshness tells in "+phase.name, func() bool { return m.Freshness(o.at).Error != "" })
		f := m.Freshness(o.at)
		if u := f.Upstreams[0]; f.Reason != status.ReasonUnavailable || u.Reason != f.Reason || !strings.Contains(u.Error, "503") || !f.Since.Equal(o.at) {
			t.Errorf("%s: expected what is the matter, got %+v", phase.name, f)
		}
		reader, err := store.OpenReadOnly(t.Context(), store.Config{Dir: m.s.Dir(), Root: o.rootOne()})
		must(t, err)
		if other, _, err := mirror.ReadHealth(reader, 0, o.at); err != nil || other.Error != f.Error {
			t.Errorf("%s: expected another process to know, got %+v, %v", phase.name, other, err)
		}
		must(t, reader.Close())
		if w := warnings(m, o.at); len(w) == 0 || !strings.Contains(w[0].Text, "no sync went well since") {
			t.Errorf("%s: expected a warning, got %v", phase.name, w)
		}
		p.answers(nil)
		must(t, <-synced)
		if f := m.Freshness(o.at); f.Error != "" || f.Reason != "" || !f.Since.IsZero() || f.Upstreams[0].Error != "" {
			t.Errorf("%s: expected all well, got %+v", phase.name, f)
		}
	}
}

// TestOneOfTwoDownWhileASyncIsPatient: with another upstream the sync is well, and the one is named.
func TestOneOfTwoDownWhileASyncIsPatient(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one)
	m := o.patient(testworld.TempDir(t), "http://127.0.0.1:1", o.url)
	_, err := m.Sync(t.Context())
	must(t, err)
	if f := m.Freshness(o.at); f.Error != "" || f.Upstreams[0].Reason != status.ReasonUnavailable || f.Upstreams[1].Error != "" {
		t.Errorf("expected one upstream told, got %+v", f)
	}
}

// TestPublicFreshness keeps to reasons: messages name hosts, proxies and paths.
func TestPublicFreshness(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one)
	p := newProxy(t, o.url)
	user := strings.Replace(p.url, "http://", "http://token:secret@", 1)
	m := o.newMirror(setup{upstreams: []string{user, "http://127.0.0.1:1"}})
	m.sync()
	p.answers(func(w http.ResponseWriter, _ *http.Request) bool {
		http.Error(w, "inside", http.StatusBadGateway)
		return true
	})
	m.syncFails(fetch.ErrUnavailable)
	f := m.Freshness(o.at)
	if whole := asJSON(t, f); !strings.Contains(whole, "502") || !strings.Contains(whole, "refused") {
		t.Errorf("expected the operator to get the message, got %s", whole)
	}
	shown := asJSON(t, f.Public())
	for _, w := range warnings(m, o.at) {
		shown += w.Text
	}
	for _, secret := range []string{"token", "secret", "502", "Bad Gateway", "connect", "timestamp.json"} {
		if strings.Contains(strings.ReplaceAll(shown, p.url, ""), secret) { // a port may have these digits
			t.Errorf("%q is shown: %s", secret, shown)
		}
	}
	if want := `"reason":"unavailable"`; strings.Count(shown, want) != 3 || !strings.Contains(shown, p.url) {
		t.Errorf("expected three reasons and the upstream, got %s", shown)
	}
	if f.Error == "" || f.Upstreams[0].Error == "" {
		t.Error("Public changed what it was made of")
	}
}
