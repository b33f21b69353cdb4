package mirror_test

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/openpowerquality/box-update-server/mirror/export"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/store"
)

// stuckOn has an upstream answer requests for archives only when goOn is closed. begun is closed with the first.
func (p *proxy) stuckOn(goOn <-chan struct{}) (begun <-chan struct{}) {
	first := make(chan struct{})
	var once sync.Once
	p.answers(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/sha256/") {
			once.Do(func() { close(first) })
			select {
			case <-goOn:
			case <-r.Context().Done():
			}
		}
		return false
	})
	return first
}

// TestImportComesFirst: whoever brings an export doesn't wait for a sync whose upstream is slow, and the sync
// begins anew afterwards, as if nothing had been.
func TestImportComesFirst(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one)
	p := newProxy(t, o.url)
	m := o.newMirror(setup{upstreams: []string{p.url}})
	m.sync()
	o.publish(two)
	carried := o.export(export.Since{})
	o.publish(three)
	goOn := make(chan struct{})
	begun := p.stuckOn(goOn)
	synced := make(chan error, 1)
	go func() {
		_, err := m.Sync(t.Context())
		synced <- err
	}()
	<-begun
	if got, err := (export.Import{Mirror: m.Mirror}).Read(t.Context(), bytes.NewReader(carried)); err != nil || got.Archives != 1 {
		t.Errorf("expected one archive imported, got %+v, %v", got, err)
	}
	m.whole()
	m.wantListed(one, two)
	select {
	case err := <-synced:
		t.Fatalf("expected the sync to go on, got %v", err)
	default:
	}
	close(goOn)
	must(t, <-synced)
	m.whole()
	m.wantListed(one, two, three)
	if f := m.Freshness(o.at); f.Error != "" || f.Upstreams[0].Error != "" {
		t.Errorf("expected nothing told, got %+v", f)
	}
}

// TestImportsWaitForEachOther, and a sync for all of them.
func TestImportsWaitForEachOther(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one)
	carried := o.export(export.Since{})
	m := o.newMirror(setup{})
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			if _, err := (export.Import{Mirror: m.Mirror}).Read(t.Context(), bytes.NewReader(carried)); err != nil {
				t.Error(err)
			}
		})
		all.Go(func() {
			if _, err := m.Sync(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	m.whole()
	m.wantListed(one)
}

// TestEndedCallsLeaveTheirTurn: those whose caller is gone before, or while they wait, hold nobody up.
func TestEndedCallsLeaveTheirTurn(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one)
	m := o.newMirror(setup{})
	ended, end := context.WithCancel(t.Context())
	end()
	for range 20 {
		_, err := m.Sync(ended)
		wantErr(t, err, context.Canceled)
		_, err = export.Import{Mirror: m.Mirror}.Read(ended, bytes.NewReader(nil))
		wantErr(t, err, context.Canceled)
	}
	m.sync()
}

// TestSyncDuringARepair does not wait while archives are read again.
func TestSyncDuringARepair(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one)
	m := o.newMirror(setup{})
	m.sync()
	o.publish(two)
	_, err := m.Repair(t.Context(), store.Check{Checked: func(trust.Release) { m.sync() }})
	must(t, err)
	m.wantListed(one, two)
}
