package mirror_test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/mirror"
	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/store"
)

// TestCollects: what is not kept any more goes, now and then, after the grace period.
func TestCollects(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one)
	o.at = time.Now() // grace periods count from the disk's own times
	o.next(trust.Change{})
	m := o.newMirror(setup{
		store: func(c *store.Config) {
			newestOnly(c)
			c.Grace, c.Now = time.Hour, func() time.Time { return o.at }
		},
		config: func(c *mirror.Config) { c.GCEvery = 3 * time.Hour },
	})
	m.sync()
	o.publish(two)
	m.sync()
	gone := o.rel(one).Update()
	there := func() bool {
		f, err := m.s.Open(gone)
		if err == nil {
			must(t, f.Close())
		}
		return err == nil
	}
	o.at = o.at.Add(2 * time.Hour)
	if m.sync(); !there() {
		t.Error("expected nothing removed before it is time")
	}
	o.at = o.at.Add(2 * time.Hour)
	if m.sync(); there() {
		t.Error("expected it removed")
	}
	m.wantListed(one, two)
}

// TestCollectsForRoom: what is not kept any more makes room when it is needed, at once.
func TestCollectsForRoom(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, big)
	o.at = time.Now()
	o.next(trust.Change{})
	now := func() time.Time { return o.at }
	m := o.newMirror(setup{store: func(c *store.Config) {
		newestOnly(c)
		c.Grace, c.Now = time.Hour, now
	}})
	m.sync()
	o.publish("opq-box-update-10.tar.gz")
	m.sync()
	capped, _ := newMirror(t, m.s, now, []string{o.url}, func(c *mirror.Config) {
		c.GCEvery, c.MaxBytes = 1000*time.Hour, int64(len(content(big)))+1000
	})
	o.publish("opq-box-update-11.tar.gz")
	if !m.has(big) {
		t.Fatal("expected the old archive to stay while there is room")
	}
	_, err := capped.Sync(t.Context())
	must(t, err)
	m.whole()
	if m.has(big) {
		t.Error("expected the old archive gone")
	}
}

// TestDemandMakesWay fills the cap of a mirror with what was asked for on demand: the next release takes the room
// of what was used longest ago, at once.
func TestDemandMakesWay(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one, two, three)
	o.at = time.Now() // as the files
	o.next(trust.Change{})
	at, ahead := o.at, atomic.Int64{}
	now := func() time.Time { return at.Add(time.Duration(ahead.Load())) }
	m := o.newMirror(setup{store: func(c *store.Config) {
		newestOnly(c)
		c.Now = now
	}, config: onDemand(mirror.OnDemandFetch)})
	m.run(t)
	waitFor(t, "the first sync", func() bool { return m.s.Repository() != nil })
	for _, n := range []string{one, two} {
		m.Want(o.rel(n).Update())
		waitFor(t, n, func() bool { return m.has(n) })
	}
	room, err := m.s.Room(t.Context(), nil)
	must(t, err)
	ahead.Store(int64(30 * time.Minute))
	second, err := os.Stat(blobOf(m, o.rel(two)))
	must(t, err)
	waitFor(t, "a later time of the disk", func() bool {
		path := filepath.Join(t.TempDir(), "now")
		must(t, os.WriteFile(path, nil, 0o600))
		now, err := os.Stat(path)
		must(t, err)
		return changed(now).After(changed(second))
	})
	f, err := m.s.Open(o.rel(one).Update()) // used again
	must(t, err)
	must(t, f.Close())
	const four = "opq-box-update-4.tar.gz"
	capped, _ := newMirror(t, m.s, now, []string{o.url}, func(c *mirror.Config) {
		// One byte less than the new one needs, with what is set aside for each.
		c.MaxBytes = room.Used + int64(len(content(four))) + 32 + 64<<10 - 1
	})
	o.publish(four)
	_, err = capped.Sync(t.Context())
	must(t, err)
	if !m.has(four) || m.has(two) || !m.has(one) {
		t.Errorf("expected the new archive in the place of the one used longest ago: new %t, used lately %t, used before %t", m.has(four), m.has(one), m.has(two))
	}
	m.whole()
}

// TestDemandUnderWayMakesWay: what is just being fetched on demand does not keep the next release away either.
func TestDemandUnderWayMakesWay(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, big, "opq-box-update-10.tar.gz")
	p := newProxy(t, o.url)
	m := o.newMirror(setup{upstreams: []string{p.url}, store: newestOnly, config: onDemand(mirror.OnDemandFetch)})
	m.sync()
	room, err := m.s.Room(t.Context(), nil)
	must(t, err)
	entered, release := make(chan struct{}), make(chan struct{})
	defer close(release)
	var once sync.Once
	p.answers(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/"+o.rel(big).Digest().String()) {
			once.Do(func() { close(entered) })
			<-release
		}
		return false
	})
	capped, _ := newMirror(t, m.s, func() time.Time { return o.at }, []string{p.url}, func(c *mirror.Config) {
		onDemand(mirror.OnDemandFetch)(c)
		c.MaxBytes = room.Used + int64(len(content(big))) + 3*32 + 64<<10 // just what it needs
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- capped.Run(ctx) }()
	capped.Want(o.rel(big).Update())
	<-entered
	o.publish("opq-box-update-11.tar.gz")
	_, err = capped.Sync(t.Context())
	must(t, err)
	if !m.has("opq-box-update-11.tar.gz") {
		t.Error("expected the new archive")
	}
	cancel()
	wantErr(t, <-ended, context.Canceled)
	m.whole()
}

// blobOf returns the path of an archive in the store of a mirror.
func blobOf(m *site, rel trust.Release) string {
	hex := rel.Digest().String()
	return filepath.Join(m.s.Dir(), "sha256", hex[:2], hex)
}

// TestTakesWhatIsWhole: one archive that the only upstream's disk damaged keeps a new mirror from nothing else, nor an
// old one from what comes next; and what is missing comes when it is whole again.
func TestTakesWhatIsWhole(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one, two)
	p := newProxy(t, o.url)
	rotten := "/" + o.rel(one).Digest().String()
	p.answers(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, rotten) {
			return false
		}
		_, _ = w.Write(make([]byte, len(content(one))))
		return true
	})
	client, err := fetch.New(fetch.Config{Upstreams: []string{p.url}, Patience: -1, Backoff: 1, MaxBackoff: 1, SetAside: time.Hour})
	must(t, err)
	t.Cleanup(client.Close)
	m := o.newMirror(setup{config: func(c *mirror.Config) { c.Client = client }})
	fails := func() {
		t.Helper()
		_, err := m.Sync(t.Context())
		wantErr(t, err, fetch.ErrDamaged)
		if !strings.Contains(err.Error(), one) {
			t.Errorf("expected it to name what is missing, got %v", err)
		}
	}
	fails()
	m.wantListed(one, two)
	if m.has(one) || !m.has(two) {
		t.Error("expected what is whole alone")
	}
	if w := warnings(m, o.at); !slices.ContainsFunc(w, func(w status.Warning) bool { return w.Subject == "archives" && strings.Contains(w.Text, one) }) {
		t.Errorf("expected health to name what is missing, got %v", w)
	}
	o.publish(three)
	fails()
	m.wantListed(one, two, three)
	if !m.has(three) {
		t.Error("expected the new one")
	}
	p.answers(nil)
	m.sync()
	m.whole()
}

// changed returns when the inode of a file changed, which says when an archive was used.
func changed(info os.FileInfo) time.Time {
	at := info.Sys().(*syscall.Stat_t).Ctim
	return time.Unix(at.Unix())
}
