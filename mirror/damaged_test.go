package mirror_test

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/mirror"
	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/store"
)

// rot damages the archive of an update, and has what is damaged go to quarantine.
func (s *site) rot(n string) {
	s.o.t.Helper()
	path := blobOf(s, s.o.rel(n))
	must(s.o.t, os.Chmod(path, 0o644))
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(s.o.t, err)
	_, err = f.WriteAt([]byte{0xff, 0xfe}, 3)
	must(s.o.t, err)
	must(s.o.t, f.Close())
	problems, err := s.s.Check(s.o.t.Context(), store.Check{Hash: true, Quarantine: true})
	must(s.o.t, err)
	if len(problems) != 1 || s.has(n) {
		s.o.t.Fatalf("expected %s in quarantine, got %v", n, problems)
	}
}

// An archive that the disk damaged leaves the room that it takes to the one that comes in its place.
func TestDamagedArchiveMakesRoom(t *testing.T) {
	o := newOrigin(t, one, two, big)
	m := o.newMirror(setup{})
	m.sync()
	room, err := m.s.Room(t.Context(), nil)
	must(t, err)
	m.Mirror, m.client = newMirror(t, m.s, func() time.Time { return o.at }, []string{o.url}, func(c *mirror.Config) {
		c.MaxBytes = room.Used + room.Used/4
	})
	m.rot(big)
	o.next(trust.Change{})
	m.sync()
	m.rot(big)
	o.publish(three)
	m.sync()
	m.wantListed(one, two, three, big)
}

// Where a damaged archive does not come again, be it for want of room or because no upstream gives it, the
// mirror goes on with renewals, releases and withdrawals, and tells the error.
func TestDamagedArchiveHoldsNothingBack(t *testing.T) {
	for what, tc := range map[string]struct {
		status   int   // with which upstreams answer for the archive; 0: they have it
		maxBytes int64 // beyond what is there without it
		want     error
	}{
		"upstreams are busy":     {status: http.StatusServiceUnavailable, want: fetch.ErrUnavailable},
		"upstreams have lost it": {status: http.StatusNotFound, want: fetch.ErrNotFound},
		"no room for it":         {maxBytes: 1 << 20, want: disk.ErrNoSpace},
	} {
		t.Run(what, func(t *testing.T) {
			o := newOrigin(t, one, two, big)
			p := newProxy(t, o.url)
			m := o.newMirror(setup{upstreams: []string{p.url}})
			m.sync()
			m.rot(big)
			if tc.maxBytes > 0 {
				must(t, os.Remove(m.s.Dir()+"/quarantine/"+o.rel(big).Digest().String()))
				room, err := m.s.Room(t.Context(), nil)
				must(t, err)
				m.Mirror, m.client = newMirror(t, m.s, func() time.Time { return o.at }, []string{p.url}, func(c *mirror.Config) {
					c.MaxBytes = room.Used + tc.maxBytes
				})
			}
			if path := "/" + o.rel(big).Digest().String(); tc.status != 0 {
				p.answers(func(w http.ResponseWriter, r *http.Request) bool {
					if !strings.Contains(r.URL.Path, path) {
						return false
					}
					w.WriteHeader(tc.status)
					return true
				})
			}
			for _, change := range []func(){func() { o.next(trust.Change{}) }, func() { o.publish(three) }, func() { o.withdraw(two) }} {
				change()
				_, err := m.Sync(t.Context())
				wantErr(t, err, tc.want)
				if !strings.Contains(err.Error(), big) && tc.status != 0 {
					t.Errorf("the error does not name %s: %v", big, err)
				}
				if got, want := m.s.Repository().Version(trust.RoleTimestamp), o.s.Repository().Version(trust.RoleTimestamp); got != want {
					t.Errorf("the mirror serves timestamp %d, expected %d: %v", got, want, err)
				}
			}
			m.wantListed(one, three, big)
			if !m.has(three) {
				t.Error("what is new did not arrive")
			}
		})
	}
}
