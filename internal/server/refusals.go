package server

import (
	"errors"
	"maps"
	"sync"

	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/status"
)

// refusals counts what the upstreams sent and this process refused, by reason.
type refusals struct {
	mu     sync.Mutex
	counts map[status.Refusal]int64
}

// add counts an error of an upstream, if it is a refusal.
func (r *refusals) add(err error) {
	reason := status.RefusalOf(err)
	if reason == "" && errors.Is(err, fetch.ErrRefused) {
		reason = status.RefusedMismatch
	}
	if reason == "" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts == nil {
		r.counts = map[status.Refusal]int64{}
	}
	r.counts[reason]++
}

// now returns the counts.
func (r *refusals) now() map[status.Refusal]int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.counts)
}
