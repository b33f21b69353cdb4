package mirror_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/openpowerquality/box-update-server/status"
)

// TestAttempts: how each sync went is told, once, the newest first.
func TestAttempts(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one)
	p := newProxy(t, o.url)
	m := o.newMirror(setup{upstreams: []string{p.url}})
	m.sync()
	m.sync()
	o.publish(two)
	p.answers(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/metadata/") {
			return false
		}
		http.NotFound(w, r)
		return true
	})
	if _, err := m.Sync(t.Context()); err == nil {
		t.Error("expected a sync without archives to fail")
	}
	f := m.Freshness(o.at)
	told := f.History
	slices.Reverse(told)
	if f.Succeeded != 2 || f.Failed != 1 || len(f.Upstreams) != 1 || f.Upstreams[0].Received == 0 {
		t.Errorf("expected two syncs that went well and one that did not, and bytes from the upstream, got %+v", f)
	}
	if len(told) != 3 || told[0].Archives != 1 || told[0].Bytes == 0 || told[0].Reason != "" || told[1].Archives != 0 || told[1].Reason != "" || told[2].Reason != status.ReasonMissing {
		t.Errorf("expected an archive, nothing, and not found, got %+v", told)
	}
}
