package server

import (
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/openpowerquality/box-update-server/mirror"
	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/router"
	"github.com/openpowerquality/box-update-server/status"
)

// maxSyncs bounds how many syncs a syncLog remembers.
const maxSyncs = 20

// syncLog remembers how the syncs of this process went.
type syncLog struct {
	mu                sync.Mutex
	succeeded, failed int64
	history           []router.SyncRecord // the newest first
	refused           map[status.Refusal]int64
}

// ended takes in how a sync went.
func (l *syncLog) ended(a mirror.Attempt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a.Reason == "" {
		l.succeeded++
	} else {
		l.failed++
	}
	one := router.SyncRecord{At: a.At, Took: a.Took, Archives: a.Archives, Bytes: a.Bytes, Problem: string(a.Reason)}
	l.history = slices.Insert(l.history[:min(len(l.history), maxSyncs-1)], 0, one)
}

// refuse takes in that an upstream sent something wrong.
func (l *syncLog) refuse(err error) {
	reason := status.RefusalOf(err)
	if reason == "" && errors.Is(err, fetch.ErrRefused) {
		reason = status.RefusedMismatch
	}
	if reason == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refused == nil {
		l.refused = map[status.Refusal]int64{}
	}
	l.refused[reason]++
}

// add adds to a standing what is remembered, and what came from each upstream.
func (m *mirrored) add(out *router.Standing) {
	received := map[string]int64{}
	for _, u := range m.client.Upstreams() {
		received[u.String()] += u.Received()
	}
	for i := range out.Sync.Upstreams {
		u := &out.Sync.Upstreams[i]
		u.Received = received[u.URL]
	}
	m.log.mu.Lock()
	defer m.log.mu.Unlock()
	out.Sync.Succeeded, out.Sync.Failed = m.log.succeeded, m.log.failed
	out.Sync.History, out.Refusals = slices.Clone(m.log.history), maps.Clone(m.log.refused)
}
