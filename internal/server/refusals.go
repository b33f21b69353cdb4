package server

import (
	"errors"
	"maps"
	"sync"

	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/status"
)

// refusals counts what upstreams of this process sent that did not verify.
type refusals struct {
	mu     sync.Mutex
	counts map[status.Refusal]int64
}

// add takes in that an upstream sent something wrong.
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

// now returns how many there were of each.
func (r *refusals) now() map[status.Refusal]int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.counts)
}
