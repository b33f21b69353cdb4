package mirror_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/mirror"
	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/store"
)

// newestOnly makes a mirror that keeps one version.
func newestOnly(c *store.Config) { c.Kept = mirror.Retention{Newest: 1}.Kept }

func onDemand(d mirror.OnDemand) func(*mirror.Config) {
	return func(c *mirror.Config) { c.OnDemand, c.Interval = d, time.Hour }
}

// TestRetentionOnAMirror: only what is kept is fetched, and all of the list is served.
func TestRetentionOnAMirror(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one, two, three)
	m := o.newMirror(setup{store: newestOnly})
	if got := m.sync(); got.Archives != 1 {
		t.Errorf("expected one archive fetched, got %+v", got)
	}
	m.wantListed(one, two, three)
	if m.has(one) || m.has(two) || !m.has(three) {
		t.Error("expected the newest alone")
	}
	if w := warnings(m, o.at); len(w) != 0 {
		t.Errorf("expected nothing to say, got %v", w)
	}
}

// TestFiftyClients who ask at once for an update that is not there cause one download, and each gets the
// whole update or nothing.
func TestFiftyClients(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one, two)
	p := newProxy(t, o.url)
	m := o.newMirror(setup{upstreams: []string{p.url}, store: newestOnly, config: onDemand(mirror.OnDemandFetch)})
	m.run(t)
	waitFor(t, "the first sync", func() bool { return m.s.Repository() != nil })
	p.taken()
	u := o.rel(one).Update()
	var clients sync.WaitGroup
	got := make([][]byte, 50)
	for i := range got {
		clients.Go(func() {
			waitFor(t, "the update", func() bool {
				f, err := m.s.Open(u)
				if err == nil {
					defer f.Close()
					got[i], err = io.ReadAll(f)
					return err == nil
				}
				if after, redirect := m.Want(u); !errors.Is(err, fs.ErrNotExist) || redirect != "" || after < time.Second {
					t.Errorf("expected to be told to come back, got %v, %q after %v", after, redirect, err)
				}
				return false
			})
		})
	}
	clients.Wait()
	for _, body := range got {
		if !bytes.Equal(body, content(one)) {
			t.Fatalf("got %d bytes that differ", len(body))
		}
	}
	if asked := p.taken(); len(fetched(asked, o.rel(one))) != 1 {
		t.Errorf("expected one download, got %v", asked)
	}
	m.whole()
}

// TestWantDuringASync: a client who asks for what the sync is fetching causes no second download.
func TestWantDuringASync(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one)
	p := newProxy(t, o.url)
	m := o.newMirror(setup{upstreams: []string{p.url}, config: onDemand(mirror.OnDemandFetch)})
	m.sync()
	lose(t, m, one)
	p.taken()
	entered, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	p.answers(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/sha256/") {
			once.Do(func() { close(entered) })
			<-goOn
		}
		return false
	})
	m.run(t)
	<-entered
	for range 10 {
		if after, _ := m.Want(o.rel(one).Update()); after == 0 {
			t.Error("expected to be told to come back")
		}
	}
	close(goOn)
	waitFor(t, "the update", func() bool { return m.has(one) })
	if asked := p.taken(); len(fetched(asked, o.rel(one))) != 1 {
		t.Errorf("expected one download, got %v", asked)
	}
}

// lose removes an archive of a mirror.
func lose(t *testing.T, m *site, n string) {
	t.Helper()
	d := m.o.rel(n).Digest().String()
	must(t, os.Remove(filepath.Join(m.s.Dir(), "sha256", d[:2], d)))
}

// TestWantAfterAFailure: an update that no upstream has is not asked for again and again.
func TestWantAfterAFailure(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one, two)
	p := newProxy(t, o.url)
	m := o.newMirror(setup{upstreams: []string{p.url}, store: newestOnly, config: onDemand(mirror.OnDemandFetch)})
	m.sync()
	archive := "/sha256/" + o.rel(one).Digest().String()
	p.answers(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == archive || strings.HasPrefix(r.URL.Path, "/targets/") {
			http.NotFound(w, r)
			return true
		}
		return false
	})
	m.run(t)
	u := o.rel(one).Update()
	m.Want(u)
	waitFor(t, "the failure", func() bool { after, _ := m.Want(u); return after == 30*time.Second })
	asked := len(fetched(p.taken(), o.rel(one)))
	for range 10 {
		m.Want(u)
	}
	if more := len(fetched(p.taken(), o.rel(one))); asked == 0 || more != 0 {
		t.Errorf("expected it asked for and then left, got %d and %d requests", asked, more)
	}
}

// TestWantAnswers what the operator chose.
func TestWantAnswers(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one, two)
	gone := o.rel(one).Update()
	kept := o.rel(two).Update()
	other := gone
	other.Digest[0] ^= 1
	away := o.url + "/sha256/" + gone.Digest.String()
	for demand, redirect := range map[mirror.OnDemand]string{mirror.OnDemandNone: "", mirror.OnDemandRedirect: away} {
		m := o.newMirror(setup{store: newestOnly, config: onDemand(demand)})
		if after, to := m.Want(gone); after == 0 || to != "" {
			t.Errorf("%q: before the first sync: expected to be told to come back, got %v, %q", demand, after, to)
		}
		m.sync()
		if after, to := m.Want(gone); after != 0 || to != redirect {
			t.Errorf("%q: expected %q, got %v, %q", demand, redirect, after, to)
		}
		if after, to := m.Want(kept); after == 0 || to != "" {
			t.Errorf("%q: an update that is kept: expected to be told to come back, got %v, %q", demand, after, to)
		}
		if after, to := m.Want(other); after != 0 || to != "" {
			t.Errorf("%q: an update that is not listed: expected nothing, got %v, %q", demand, after, to)
		}
	}
}

// TestWantIsBounded: however many archives are wanted, the mirror promises some.
func TestWantIsBounded(t *testing.T) {
	t.Parallel()
	var names []string
	for i := range 300 {
		names = append(names, fmt.Sprintf("opq-box-update-%d.tar.gz", 1000+i))
	}
	o := newOrigin(t, names...)
	m := o.newMirror(setup{store: newestOnly, config: onDemand(mirror.OnDemandFetch)})
	if _, err := m.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	waits := map[time.Duration]int{}
	for _, n := range names {
		after, _ := m.Want(o.rel(n).Update())
		waits[after]++
	}
	if waits[5*time.Second] != 256 || waits[2*time.Minute] != 44 {
		t.Errorf("expected 256 promised and the others told to come back much later, got %v", waits)
	}
}

// TestKept tells what is kept of a list, with each limit.
func TestKept(t *testing.T) {
	t.Parallel()
	const (
		old    = "opq-box-update-10.tar.gz"
		both   = "opq-box-update-20.tar.gz"
		bz2    = "opq-box-update-20.tar.bz2"
		staged = "opq-box-update-30.tar.gz"
		newest = "opq-box-update-40.tar.gz"
		tool   = "tool-5.tar.gz"
	)
	o := newOrigin(t, old, tool)
	o.at = day.Add(24 * time.Hour)
	o.publish(both, bz2)
	o.at = day.Add(48 * time.Hour)
	o.edit(func(e *trust.TargetsEdit) (err error) {
		for _, n := range []string{staged, newest} {
			a := testworld.Addition(n, content(n))
			a.Conditions.Hardware = []string{"rev2"}
			err = errors.Join(err, e.Add(a))
		}
		return err
	})
	cases := []struct {
		name string
		r    mirror.Retention
		want []string
	}{
		{"everything", mirror.Retention{}, []string{tool, old, both, bz2, staged, newest}},
		{"one", mirror.Retention{Newest: 1}, []string{tool, both, bz2, newest}},
		{"two", mirror.Retention{Newest: 2}, []string{tool, both, bz2, staged, newest}},
		{"four", mirror.Retention{Newest: 4}, []string{tool, old, both, bz2, staged, newest}},
		{"since", mirror.Retention{Since: day.Add(25 * time.Hour)}, []string{tool, both, bz2, staged, newest}},
		{"since the future", mirror.Retention{Since: day.Add(1000 * time.Hour)}, []string{tool, both, bz2}},
		{"either", mirror.Retention{Newest: 1, Since: day.Add(24 * time.Hour)}, []string{tool, both, bz2, staged, newest}},
	}
	for _, c := range cases {
		var got []string
		for _, rel := range c.r.Kept(o.s.Repository()) {
			got = append(got, rel.Name().String())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: expected %v, got %v", c.name, c.want, got)
		}
	}
}

// TestOnlineKeyDropsNoArchive: what the list bears out is dropped, and nothing for a time that the online key alone signed.
func TestOnlineKeyDropsNoArchive(t *testing.T) {
	t.Parallel()
	const old, staged, next = "opq-box-update-10.tar.gz", "opq-box-update-20.tar.gz", "opq-box-update-30.tar.gz"
	o := newOrigin(t, old)
	publish := func(n string) {
		a := testworld.Addition(n, content(n))
		a.Conditions.Rollout = &trust.Rollout{Steps: []trust.Step{{Percent: 1}, {After: 72 * time.Hour, Percent: 100}}}
		o.edit(func(e *trust.TargetsEdit) error { return e.Add(a) })
	}
	wantKept := func(what string, want ...string) {
		t.Helper()
		var got []string
		for _, rel := range (mirror.Retention{Newest: 1}).Kept(o.s.Repository()) {
			got = append(got, rel.Name().String())
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: expected %v, got %v", what, want, got)
		}
	}
	publish(staged)
	wantKept("a rollout has begun", old, staged)
	o.at = o.at.Add(96 * time.Hour)
	o.next(trust.Change{})
	wantKept("a timestamp says that it is over", old, staged)
	if got := (mirror.Retention{Since: o.at}).Kept(o.s.Repository()); len(got) != 2 {
		t.Errorf("expected what boxes are sent to, by either clock, got %d archives", len(got))
	}
	publish(next)
	wantKept("the next list says so", staged, next)
}

// TestRedirectToTheLiving: nobody is sent to an upstream that is known to be down, to refuse, or to be behind, even
// where it may be asked again itself.
func TestRedirectToTheLiving(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one)
	stale := o.newMirror(setup{})
	stale.sync()
	o.publish(two)
	first, second := newProxy(t, o.url), newProxy(t, o.url)
	at := func(p *proxy) string { return p.url + "/sha256/" + o.rel(one).Digest().String() }
	client, err := fetch.New(fetch.Config{Upstreams: []string{stale.url, first.url, second.url}, Patience: -1, Backoff: 1, MaxBackoff: 1})
	must(t, err)
	defer client.Close()
	m := o.newMirror(setup{store: newestOnly, config: func(c *mirror.Config) { c.Client, c.OnDemand = client, mirror.OnDemandRedirect }})
	m.sync()
	want := func(what, to string) {
		t.Helper()
		if after, got := m.Want(o.rel(one).Update()); got != to || (to == "") != (after > 0) {
			t.Errorf("%s: expected %q, got %v, %q", what, to, after, got)
		}
	}
	dead := func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }
	want("the one in front is behind", at(first))
	first.answers(dead)
	m.sync()
	want("the next one is down", at(second))
	second.answers(onPath("/metadata/timestamp.json", []byte("{}")))
	_, err = m.Sync(t.Context()) // only the one that is behind is left
	wantErr(t, err, fetch.ErrUnavailable)
	want("all are", "")
	first.answers(nil)
	m.sync()
	want("one is back", at(first))
}
