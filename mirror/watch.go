package mirror

import (
	"errors"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/status"
)

// watchEvery is how often the upstreams of a running sync are checked.
const watchEvery = time.Second

// watch records upstreams that fail during a sync, which may wait long for them, until stop is called.
func (m *Mirror) watch() (stop func()) {
	w := watch{m: m, failing: map[*fetch.Upstream]bool{}}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(watchEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				w.check()
			case <-done:
				return
			}
		}
	}()
	return func() {
		close(done)
		<-ended
		w.check()
	}
}

// watch is what was recorded during one sync.
type watch struct {
	m       *Mirror
	failing map[*fetch.Upstream]bool
	all     bool // all upstreams fail
}

// check records which upstreams fail now, if that has changed.
func (w *watch) check() {
	m := w.m
	at := seconds(m.c.Now())
	m.mu.Lock()
	defer m.mu.Unlock()
	changed, failing := false, []string{}
	for _, u := range m.c.Client.Upstreams() {
		s := u.State()
		if s.Failing {
			failing = append(failing, s.Reason)
		}
		known := find(&m.record.Upstreams, u)
		if slow, damaged := askedLast(s); known.Slow != slow || known.Damaged != damaged {
			known.Slow, known.Damaged, changed = slow, damaged, true
		}
		if s.Failing != w.failing[u] {
			w.failing[u], changed = s.Failing, true
			w.noteFailing(u, s)
		}
	}
	r := &m.record
	switch all := len(failing) == len(m.c.Client.Upstreams()); {
	case all && r.Error == "":
		err := errors.New("every upstream fails and is asked again: " + strings.Join(failing, "; "))
		r.noteProblem(message(err), status.ReasonUnavailable, at)
		w.all, changed = true, true
	case !all && w.all:
		r.clearProblem()
		w.all, changed = false, true
	}
	if changed {
		m.save()
	}
}

// noteFailing records whether an upstream fails. The caller holds mu.
func (w *watch) noteFailing(u *fetch.Upstream, s fetch.State) {
	known := find(&w.m.record.Upstreams, u)
	if s.Failing {
		known.Error, known.Reason = s.Reason, status.ReasonUnavailable
	} else if known.Reason == status.ReasonUnavailable {
		known.Error, known.Reason = "", ""
	}
}
