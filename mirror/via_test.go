package mirror_test

import (
	"net/http"
	"testing"

	"github.com/openpowerquality/box-update-server/mirror"
)

// serving has a proxy serve a mirror, with the field by which mirrors know each other.
func (p *proxy) serving(t *testing.T, s *site) {
	p.next = newProxy(t, s.url)
	p.answers(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set(s.Via())
		return false
	})
}

// TestRing: mirrors that copy from each other say so, and those one of which has an origin do not.
func TestRing(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one)
	for _, tc := range []struct {
		what   string
		mirror int  // how many, each of which copies from the next one
		origin bool // which the last one has too
	}{{"itself", 1, false}, {"each other", 2, false}, {"three", 3, false}, {"two and an origin", 2, true}, {"three and an origin", 3, true}} {
		t.Run(tc.what, func(t *testing.T) {
			var front []*proxy
			for range tc.mirror {
				front = append(front, newProxy(t, o.url))
			}
			var sites []*site
			for i := range tc.mirror {
				upstreams := []string{front[(i+1)%tc.mirror].url}
				if tc.origin && i == tc.mirror-1 {
					upstreams = append(upstreams, o.url)
				}
				sites = append(sites, o.newMirror(setup{upstreams: upstreams}))
				sites[i].sync()
				if sites[i].Freshness(o.at).Ring {
					t.Error("a ring, while each has the origin")
				}
			}
			for i, s := range sites {
				front[i].serving(t, s)
			}
			for range tc.mirror + 1 {
				for _, s := range sites {
					s.sync()
				}
			}
			for i, s := range sites {
				f := s.Freshness(o.at)
				if f.Ring == tc.origin {
					t.Errorf("mirror %d: %+v", i, f)
				}
				if w := warnings(s, o.at); f.Ring && len(w) != 1 {
					t.Errorf("expected one warning, got %v", w)
				}
				if read, _, err := mirror.ReadHealth(s.s, 0, o.at); err != nil || read.Ring != f.Ring {
					t.Errorf("another process reads %+v, %v", read, err)
				}
			}
		})
	}
}
