package mirror_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/openpowerquality/box-update-server/mirror"
	"github.com/openpowerquality/box-update-server/status"
)

// TestAttempts: how each sync went is told, once.
func TestAttempts(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one)
	p := newProxy(t, o.url)
	var told []mirror.Attempt
	m := o.newMirror(setup{upstreams: []string{p.url}, config: func(c *mirror.Config) { c.Tried = func(a mirror.Attempt) { told = append(told, a) } }})
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
	if len(told) != 3 || told[0].Archives != 1 || told[0].Bytes == 0 || told[0].Reason != "" || told[1].Archives != 0 || told[1].Reason != "" || told[2].Reason != status.ReasonMissing {
		t.Errorf("expected an archive, nothing, and not found, got %+v", told)
	}
}
