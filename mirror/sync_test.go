package mirror_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
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
	"github.com/openpowerquality/box-update-server/update"
)

// files are the paths of all that a site serves of a repository.
func files(r *trust.Repository) (paths []string) {
	for _, role := range trust.Roles() {
		paths = append(paths, "/metadata/"+trust.FileName(role, r.Version(role)))
	}
	for v := range r.Version(trust.RoleRoot) {
		paths = append(paths, "/metadata/"+trust.FileName(trust.RoleRoot, v+1))
	}
	for _, rel := range r.Releases() {
		d := rel.Digest().String()
		paths = append(paths, "/update/"+rel.Name().String(), "/update/"+rel.Name().String()+".sha256",
			"/sha256/"+d, "/sha256/"+d+".blocks", "/targets/"+d+"."+rel.Name().String())
	}
	return append(paths, "/ls", "/version", "/updates.json")
}

// wantSame wants two sites to serve the same bytes.
func wantSame(t *testing.T, r *trust.Repository, a, b string) {
	t.Helper()
	for _, path := range files(r) {
		if !bytes.Equal(get(t, a+path), get(t, b+path)) {
			t.Errorf("%s differs", path)
		}
	}
}

// TestChain: what is published reaches the mirror of a mirror, byte for byte, with one sync of each.
func TestChain(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one, big)
	first := o.newMirror(setup{})
	last := o.newMirror(setup{upstreams: []string{first.url}})
	steps := []struct {
		name   string
		change func()
	}{
		{"the first copy", func() {}},
		{"an update", func() { o.publish(two) }},
		{"a withdrawal", func() { o.withdraw(one) }},
		{"a root", o.newRoot},
		{"an update under the new root", func() { o.publish(three) }},
		{"a new timestamp", func() { o.at = day.Add(4 * 24 * time.Hour); o.next(trust.Change{}) }},
	}
	for _, step := range steps {
		step.change()
		if !first.sync().Changed || !last.sync().Changed {
			t.Fatalf("%s: expected another repository on both", step.name)
		}
		wantSame(t, o.s.Repository(), o.url, last.url)
	}
	wantSame(t, o.s.Repository(), o.url, first.url)
	last.wantListed(two, three, big)
}

// TestRunReachesTheLast: mirrors that run by themselves pass a publish on.
func TestRunReachesTheLast(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one)
	often := func(c *mirror.Config) { c.Interval = 20 * time.Millisecond; c.Retry = 5 * time.Millisecond }
	first := o.newMirror(setup{config: often})
	last := o.newMirror(setup{upstreams: []string{first.url}, config: often})
	first.run(t)
	last.run(t)
	waitFor(t, "the first copy", func() bool { return slices.Equal(last.listed(), []string{one}) })
	o.publish(two)
	waitFor(t, "the publish", func() bool { return slices.Equal(last.listed(), []string{one, two}) })
}

// run runs a mirror until the test ends.
func (s *site) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != ctx.Err() {
			t.Errorf("expected Run to end with its context, got %v", err)
		}
	})
}

// waitFor polls for what another goroutine brings about over a socket.
func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(testworld.Patience)
	for !done() {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("%s did not happen", what)
		}
	}
}

// TestTrigger: a mirror whose next sync is far away syncs when it is told to.
func TestTrigger(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one)
	m := o.newMirror(setup{config: func(c *mirror.Config) { c.Interval = time.Hour }})
	m.run(t)
	waitFor(t, "the first sync", func() bool { return m.s.Repository() != nil })
	o.publish(two)
	m.Trigger()
	waitFor(t, "the second sync", func() bool { return len(m.listed()) == 2 })
}

// TestNothingNewIsOneRequest, whatever there is.
func TestNothingNewIsOneRequest(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one, two, big)
	p := newProxy(t, o.url)
	status := 0
	m := o.newMirror(setup{upstreams: []string{p.url}})
	m.sync()
	p.taken()
	p.answers(func(w http.ResponseWriter, r *http.Request) bool {
		p.next.ServeHTTP(recorder{w, &status}, r)
		return true
	})
	began := time.Now()
	result, err := m.Sync(t.Context())
	took := time.Since(began)
	must(t, err)
	if got := p.taken(); result != (mirror.Result{}) || !slices.Equal(got, []string{"/metadata/timestamp.json"}) || status != http.StatusNotModified {
		t.Errorf("expected one request answered 304, got %v, the last answered %d, and %+v", got, status, result)
	}
	t.Logf("nothing new took %v", took)
}

// recorder keeps the status of an answer.
type recorder struct {
	http.ResponseWriter
	status *int
}

func (r recorder) WriteHeader(status int) {
	*r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// TestOneNewUpdate costs that update and the metadata that name it.
func TestOneNewUpdate(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one, two, big)
	p := newProxy(t, o.url)
	m := o.newMirror(setup{upstreams: []string{p.url}})
	m.sync()
	o.publish(three)
	p.taken()
	if _, err := m.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := o.s.Repository()
	want := []string{"/metadata/timestamp.json", "/metadata/2.root.json",
		"/metadata/" + trust.FileName(trust.RoleSnapshot, r.Version(trust.RoleSnapshot)),
		"/metadata/" + trust.FileName(trust.RoleTargets, r.Version(trust.RoleTargets)),
		"/sha256/" + o.rel(three).Digest().String()}
	got := p.taken()
	for i := range got {
		got[i], _, _ = strings.Cut(got[i], " ")
	}
	if !slices.Equal(got, want) {
		t.Errorf("expected %v asked for, got %v", want, got)
	}
}

// TestBiggestFirst: with one download at a time, the archives come in that order.
func TestBiggestFirst(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one, big)
	var planned []string
	p := newProxy(t, o.url)
	m := o.newMirror(setup{upstreams: []string{p.url}, config: func(c *mirror.Config) {
		c.Parallel = 1
		c.Planned = func(rels []trust.Release) {
			for _, rel := range rels {
				planned = append(planned, rel.Name().String())
			}
		}
	}})
	if got := m.sync(); got.Archives != 2 || got.Bytes != int64(len(content(one))+len(content(big))) {
		t.Errorf("expected both archives counted, got %+v", got)
	}
	if !slices.Equal(planned, []string{big, one}) {
		t.Errorf("expected the big one planned first, got %v", planned)
	}
	asked := p.taken()
	if first, second := fetched(asked, o.rel(big)), fetched(asked, o.rel(one)); len(first) == 0 || len(second) == 0 || first[0] > second[0] {
		t.Errorf("expected the big one fetched first, got %v", asked)
	}
}

// fetched returns the places in asked of requests for bytes of an archive.
func fetched(asked []string, rel trust.Release) (places []int) {
	for i, a := range asked {
		path, _, _ := strings.Cut(a, " ")
		if path == "/sha256/"+rel.Digest().String() {
			places = append(places, i)
		}
	}
	return places
}

// TestUpstreamDown: the mirror goes on serving, says so, and recovers by itself.
func TestUpstreamDown(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one)
	p := newProxy(t, o.url)
	m := o.newMirror(setup{upstreams: []string{p.url}})
	m.sync()
	if w := warnings(m, o.at); len(w) != 0 {
		t.Errorf("expected nothing to say, got %v", w)
	}
	p.answers(func(w http.ResponseWriter, _ *http.Request) bool {
		panic(http.ErrAbortHandler)
	})
	o.at = day.Add(time.Hour)
	err := m.syncFails(fetch.ErrUnavailable)
	m.wantListed(one)
	f := m.Freshness(o.at)
	if f.Error != err.Error() || !f.Since.Equal(o.at) || !f.Checked.Equal(day) || !f.Complete.Equal(day) {
		t.Errorf("expected the failure told, got %+v", f)
	}
	if w := warnings(m, o.at); len(w) != 1 || w[0].Subject != "sync" || w[0].Urgent || !strings.Contains(w[0].Text, p.url) {
		t.Errorf("expected one warning that names the upstream, got %v", w)
	}
	if !m.Freshness(o.at).Ready() {
		t.Error("expected the mirror ready")
	}
	later := o.at.Add(time.Hour)
	o.at = later
	m.syncFails(fetch.ErrUnavailable)
	if f := m.Freshness(o.at); !f.Since.Equal(day.Add(time.Hour)) {
		t.Errorf("expected the first failure's time to stay, got %v", f.Since)
	}
	p.answers(nil)
	o.publish(two)
	m.sync()
	if f := m.Freshness(o.at); f.Error != "" || !f.Since.IsZero() || !f.Complete.Equal(later) {
		t.Errorf("expected all well again, got %+v", f)
	}
}

// TestNewestUpstreamWins, whatever the order, and the others are told apart from it.
func TestNewestUpstreamWins(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one)
	stale := o.newMirror(setup{})
	stale.sync()
	o.publish(two)
	for _, upstreams := range [][]string{{stale.url, o.url}, {o.url, stale.url}} {
		m := o.newMirror(setup{upstreams: upstreams})
		m.sync()
		m.wantListed(one, two)
		for _, u := range m.Freshness(o.at).Upstreams {
			if behind := u.URL == stale.url; u.Behind != behind || u.Error != "" || u.Versions == (status.Versions{}) {
				t.Errorf("expected %s behind: %v, got %+v", u.URL, behind, u)
			}
		}
		// From now on the stale one is older than what the mirror has.
		again, client := newMirror(t, m.s, func() time.Time { return o.at }, upstreams, nil)
		_, err := again.Sync(t.Context())
		must(t, err)
		m.wantListed(one, two)
		for i, u := range again.Freshness(o.at).Upstreams {
			if stale := u.URL == stale.url; stale != (u.Error != "") || stale != u.Behind {
				t.Errorf("expected the stale one alone refused, got %+v", u)
			}
			if stale := u.URL == stale.url; stale != client.Upstreams()[i].State().Behind {
				t.Errorf("expected the stale one alone asked last, got %+v", client.Upstreams()[i].State())
			}
		}
		if w := warnings(again, o.at); len(w) != 1 || w[0].Subject != "upstream" || !strings.Contains(w[0].Text, stale.url) {
			t.Errorf("expected one warning about %s, got %v", stale.url, w)
		}
	}
}

// TestHostileBesideHonest: the honest upstream is used, and the other one named and left alone for a
// while.
func TestHostileBesideHonest(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one)
	p := newProxy(t, o.url)
	p.answers(onPath("/metadata/timestamp.json", []byte("{}")))
	client, err := fetch.New(fetch.Config{Upstreams: []string{p.url, o.url}, Patience: -1, SetAside: time.Hour})
	must(t, err)
	defer client.Close()
	m := o.newMirror(setup{config: func(c *mirror.Config) { c.Client = client }})
	m.sync()
	f := m.Freshness(o.at)
	if f.Upstreams[0].Error == "" || f.Upstreams[1].Error != "" || f.Error != "" {
		t.Errorf("expected the first one refused alone, got %+v", f)
	}
	p.taken()
	m.sync()
	if asked := p.taken(); len(asked) != 0 {
		t.Errorf("expected the hostile one left alone, got %v", asked)
	}
}

// TestSecondUpstreamCostsLittle: what one upstream sent is not fetched from the next one.
func TestSecondUpstreamCostsLittle(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one)
	a, b := newProxy(t, o.url), newProxy(t, o.url)
	m := o.newMirror(setup{upstreams: []string{a.url, b.url}})
	m.sync()
	o.newRoot()
	o.publish(two)
	a.taken()
	b.taken()
	m.sync()
	if asked := b.taken(); !slices.Equal(asked, []string{"/metadata/timestamp.json", "/metadata/3.root.json", "/metadata/timestamp.json"}) {
		t.Errorf("expected the second one asked for its timestamp and a root, got %v", asked)
	}
}

// TestBadArchiveDoesNotHoldTheOthersUp: they arrive and are served, and only it is left for the next sync.
func TestBadArchiveDoesNotHoldTheOthersUp(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one, two, three)
	p := newProxy(t, o.url)
	m := o.newMirror(setup{upstreams: []string{p.url}, config: func(c *mirror.Config) { c.Parallel = 1 }})
	p.answers(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, o.rel(two).Digest().String()) {
			return false
		}
		http.NotFound(w, r)
		return true
	})
	result, err := m.Sync(t.Context())
	wantErr(t, err, fetch.ErrNotFound)
	if result.Archives != 2 || m.s.Repository() == nil {
		t.Errorf("expected the two others to arrive and to be served, got %+v", result)
	}
	p.answers(nil)
	p.taken()
	if got := m.sync(); got.Archives != 1 {
		t.Errorf("expected one archive fetched, got %+v", got)
	}
}

// TestCutSyncGoesOn: a sync that was cut fetches no block again that arrived.
func TestCutSyncGoesOn(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, big)
	p := newProxy(t, o.url)
	m := o.newMirror(setup{upstreams: []string{p.url}})
	archive := "/sha256/" + o.rel(big).Digest().String()
	p.answers(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != archive {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(content(big))))
		w.Write(content(big)[:update.BlockSize+100])
		panic(http.ErrAbortHandler)
	})
	m.syncFails(fetch.ErrUnavailable)
	p.answers(nil)
	p.taken()
	m.sync()
	var got []string
	for _, a := range p.taken() {
		if path, span, _ := strings.Cut(a, " "); path == archive {
			got = append(got, span)
		}
	}
	if len(got) == 0 || !strings.HasPrefix(got[0], fmt.Sprintf("bytes=%d-", update.BlockSize)) {
		t.Errorf("expected the bytes from %d on asked for, got %q", update.BlockSize, got)
	}
}

// TestCancelledSyncSaysNothing about the copy.
func TestCancelledSyncSaysNothing(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one)
	ctx, cancel := context.WithCancel(t.Context())
	m := o.newMirror(setup{config: func(c *mirror.Config) { c.Planned = func([]trust.Release) { cancel() } }})
	for range 2 { // in the middle, and before it begins
		_, err := m.Sync(ctx)
		wantErr(t, err, context.Canceled)
	}
	if f := m.Freshness(o.at); f.Error != "" || m.s.Repository() != nil {
		t.Errorf("expected no failure told, got %+v", f)
	}
}

// TestUpstreamWithoutBlockLists still works.
func TestUpstreamWithoutBlockLists(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one, big)
	p := newProxy(t, o.url)
	p.answers(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, ".blocks") {
			return false
		}
		http.NotFound(w, r)
		return true
	})
	m := o.newMirror(setup{upstreams: []string{p.url}})
	m.sync()
	wantSame(t, o.s.Repository(), o.url, m.url)
}

// TestRoom: what does not fit is refused before anything is fetched, and fits when there is room.
func TestRoom(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one, big)
	p := newProxy(t, o.url)
	for name, u := range map[string]setup{
		"the cap":     {config: func(c *mirror.Config) { c.MaxBytes = int64(len(content(big))) }},
		"the reserve": {store: func(c *store.Config) { c.Reserve = 1 << 60 }},
	} {
		u.upstreams = []string{p.url}
		m := o.newMirror(u)
		p.taken()
		m.syncFails(disk.ErrNoSpace)
		if asked := p.taken(); len(fetched(asked, o.rel(big)))+len(fetched(asked, o.rel(one))) > 0 {
			t.Errorf("%s: expected no archive asked for, got %v", name, asked)
		}
	}
	m := o.newMirror(setup{config: func(c *mirror.Config) { c.MaxBytes = int64(len(content(big))) + 1<<20 }})
	m.sync()
}

// TestSlowUpstream: one that drips is left for one that doesn't, and told of until it is asked first again.
func TestSlowUpstream(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one)
	p := newProxy(t, o.url)
	p.answers(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/sha256/") {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(o.rel(one).Length()))
		for r.Context().Err() == nil {
			w.Write([]byte("x"))
			w.(http.Flusher).Flush()
			<-time.After(50 * time.Millisecond)
		}
		return true
	})
	client, err := fetch.New(fetch.Config{Upstreams: []string{p.url, o.url}, StallRate: 1, Race: 400 * time.Millisecond})
	must(t, err)
	defer client.Close()
	m := o.newMirror(setup{config: func(c *mirror.Config) { c.Client = client }})
	m.sync()
	m.wantListed(one)
	f := m.Freshness(o.at)
	if !f.Upstreams[0].Slow || f.Upstreams[1].Slow || f.Error != "" {
		t.Errorf("expected the first one slow alone, got %+v", f)
	}
	if w := warnings(m, o.at); len(w) != 1 || w[0].Subject != "upstream" || !strings.Contains(w[0].Text, p.url+" is much slower") {
		t.Errorf("expected one warning about %s, got %v", p.url, w)
	}
	if read, _, err := mirror.ReadHealth(m.s, 0, o.at); err != nil || !read.Upstreams[0].Slow {
		t.Errorf("another process reads %+v, %v", read, err)
	}
}
