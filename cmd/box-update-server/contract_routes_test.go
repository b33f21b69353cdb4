package main_test

import (
	"encoding/json"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
)

// A component is what OPQ Health reads from "/".
type component struct {
	Name          *string
	OK            *bool
	Timestamp     *json.Number
	Subcomponents []component
}

// check fails the test unless a component and all below it say what Health needs, at this time.
func (c component) check(t *testing.T, now time.Time) {
	t.Helper()
	if c.Name == nil || c.OK == nil || c.Timestamp == nil {
		t.Fatalf("component without name, ok or timestamp: %s", asJSON(t, c))
	}
	if *c.Name == "" || strings.Trim(*c.Name, "0123456789") == "" {
		t.Errorf("component %q would be read as a box", *c.Name)
	}
	stamp, err := c.Timestamp.Int64()
	if age := now.Unix() - stamp; err != nil || age < 0 || age >= 20 {
		t.Errorf("%s: timestamp %s at %d: want whole seconds, not ahead, less than 20 s old", *c.Name, *c.Timestamp, now.Unix())
	}
	for _, sub := range c.Subcomponents {
		sub.check(t, now)
	}
}

func health(t *testing.T, base string) component {
	t.Helper()
	a := get(t, base+"/")
	a.is(t, 200, "application/json", a.body)
	var c component
	if err := json.Unmarshal([]byte(a.body), &c); err != nil {
		t.Fatalf("%v: %q", err, a.body)
	}
	c.check(t, time.Now())
	return c
}

func healthIsATree(t *testing.T, s site) {
	h := health(t, s.base)
	if *h.Name != "Box Update Server" || len(h.Subcomponents) == 0 {
		t.Errorf("got %s with %d subcomponents", *h.Name, len(h.Subcomponents))
	}
}

func healthIsMadePerRequest(t *testing.T, s site) {
	first := *health(t, s.base).Timestamp
	testworld.Await(t, "a newer timestamp", func() bool { return *health(t, s.base).Timestamp > first })
	get(t, s.base+"/").has(t, "Cache-Control", "no-store")
}

func lsListsNames(t *testing.T, s site) {
	get(t, s.base+"/ls").is(t, 200, "text/plain", listing)
}

func lsOfNothing(t *testing.T) {
	get(t, serve(t, t.TempDir()).base+"/ls").is(t, 200, "text/plain", "")
}

func lsAscendsByVersion(t *testing.T, s site) {
	names := strings.Split(get(t, s.base+"/ls").body, "\n")
	if names[0] != name(999999999, "tar.bz2") || names[len(names)-1] != newest {
		t.Errorf("got %q first and %q last", names[0], names[len(names)-1])
	}
}

func versionIsTheNewest(t *testing.T, s site) {
	get(t, s.base+"/version").is(t, 200, "text/plain", "1550190683")
}

func versionOfNothing(t *testing.T) {
	get(t, serve(t, t.TempDir()).base+"/version").isNoVersion(t)
}

func latestRedirects(t *testing.T, s site) {
	a := get(t, s.base+"/latest")
	if s.base == s.server.base {
		a.isRedirect(t, "/update/"+newest)
		return
	}
	a.isRedirect(t, s.base+"/update/"+newest) // nginx makes the path a whole URL
}

func latestOfNothing(t *testing.T) {
	get(t, serve(t, t.TempDir()).base+"/latest").isNotFound(t)
}

func latestPrefersBzip2(t *testing.T) {
	dir := dropped(t, newest, name(1550190683, "tar.gz"), name(1550190683, "tar.zst"), name(7, "tar.bz2"))
	get(t, serve(t, dir).base+"/latest").isRedirect(t, "/update/"+newest)
	zst := name(1550190684, "tar.zst")
	still(t, write(t, dir, zst, body(zst)))
	get(t, serve(t, dir).base+"/latest").isRedirect(t, "/update/"+zst)
}

// While newer and newer updates arrive, /version and /latest never name different ones for long:
// asked one after the other, version, latest, version, an unchanged version frames the same release.
func versionAndLatestAgree(t *testing.T) {
	dir := dropped(t, name(1, "tar.bz2"))
	s := serve(t, dir)
	for v := 2; v <= 6; v++ {
		n := name(v, "tar.bz2")
		still(t, write(t, dir, n, body(n)))
		testworld.Await(t, n, func() bool {
			before := get(t, s.base+"/version").body
			latest := path.Base(get(t, s.base+"/latest").header.Get("Location"))
			after := get(t, s.base+"/version").body
			if before == after && latest != "opq-box-update-"+after+".tar.bz2" {
				t.Errorf("/version is %s, /latest %s", after, latest)
			}
			return latest == n
		})
	}
}

func updateIsADownload(t *testing.T, s site) {
	for n := range strings.SplitSeq(listing, "\n") {
		get(t, s.base+"/update/"+n).isArchive(t, n, read(t, s.dir, n))
	}
}

func otherNamesAreNotFound(t *testing.T, s site) {
	for _, n := range []string{
		name(1550190684, "tar.bz2"), "opq-box-update-latest.tar.bz2", "opq-box-update-01547861057.tar.bz2",
		"OPQ-BOX-UPDATE-1547861057.TAR.BZ2", "opq-box-update-1547861057.tar.xz", "opq-box-update-1547861057", "1547861057",
	} {
		get(t, s.base+"/update/"+n).isNotFound(t)
	}
}

func otherPathsAreNotFound(t *testing.T, s site) {
	for _, p := range []string{
		"/nothing", "/update", "/update/", "/ls/", "/version/", "/LS", "/latest/" + newest, "/" + newest,
		"/update/" + newest + "/", "/favicon.ico", "/ls.txt",
	} {
		get(t, s.base+p).isNotFound(t)
	}
}
