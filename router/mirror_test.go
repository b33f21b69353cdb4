package router

import (
	"regexp"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// fakeMirror is behind by so many updates; negative: it has nothing yet.
type fakeMirror struct{ behind atomic.Int64 }

func (m *fakeMirror) Synced() bool               { return m.behind.Load() >= 0 }
func (m *fakeMirror) Via() (field, value string) { return "Box-Update-Via", "0011223344556677" }

func (m *fakeMirror) Freshness() *status.Freshness {
	return &status.Freshness{UpdatesBehind: int(m.behind.Load())}
}

func (m *fakeMirror) Want(update.Update) (time.Duration, string) {
	return 1500 * time.Millisecond, ""
}

func TestFreshnessInTheList(t *testing.T) {
	m := &fakeMirror{}
	addr := start(t, Config{Source: newFake(t), Mirror: m})
	first := get(t, addr, "/updates.json")
	first.hold(t, 200, map[string]string{"Cache-Control": "no-cache", "Vary": "Accept-Encoding"})
	if !regexp.MustCompile(`^{"freshness":{.*"updates_behind":0,.*"upstreams":null},"product":`).MatchString(first.body) {
		t.Errorf("got %.800s", first.body)
	}
	tag := first.header.Get("Etag")
	get(t, addr, "/updates.json", "If-None-Match: "+tag).hold(t, 304, nil)
	z := get(t, addr, "/updates.json", "Accept-Encoding: gzip")
	if gunzip(t, z.body) != first.body {
		t.Error("another list when compressed")
	}
	m.behind.Store(3)
	next := get(t, addr, "/updates.json", "If-None-Match: "+tag)
	next.hold(t, 200, nil)
	if !regexp.MustCompile(`^{"freshness":{.*"updates_behind":3,`).MatchString(next.body) {
		t.Errorf("got %.800s", next.body)
	}
	m.behind.Store(-1)
	for _, path := range []string{"/ls", "/latest", "/version", "/updates.json"} {
		get(t, addr, path).hold(t, 503, map[string]string{"Retry-After": "10", "Cache-Control": "no-store"})
	}
}

// TestVia: by a field of the timestamp, also where that is unchanged, mirrors know each other, and clients are not
// bothered with it elsewhere.
func TestVia(t *testing.T) {
	addr := start(t, Config{Source: newFake(t), Metadata: newFakeMetadata("timestamp.json", "{}", "1.root.json", "{}").Metadata, Mirror: &fakeMirror{}})
	via := map[string]string{"Box-Update-Via": "0011223344556677"}
	first := get(t, addr, "/metadata/timestamp.json")
	first.hold(t, 200, via)
	get(t, addr, "/metadata/timestamp.json", "If-None-Match: "+first.header.Get("Etag")).hold(t, 304, via)
	if got := get(t, addr, "/metadata/1.root.json").header.Get("Box-Update-Via"); got != "" {
		t.Errorf("a root has it too: %s", got)
	}
}
