package mirror_test

import (
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/mirror"
	"github.com/openpowerquality/box-update-server/signing/trust"
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

// TestCollectsForRoom: what is not kept any more makes room when it is needed, once it may go.
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
	_, err := capped.Sync(t.Context())
	wantErr(t, err, store.ErrNoSpace)
	o.at = o.at.Add(2 * time.Hour)
	_, err = capped.Sync(t.Context())
	must(t, err)
	m.whole()
	if m.has(big) {
		t.Error("expected the old archive gone")
	}
}
