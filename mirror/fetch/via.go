package fetch

import (
	"encoding/hex"
	"net/http"
	"strings"
)

// ViaHeader is the field of an answer for a timestamp in which a mirror names itself and the mirrors through which its
// copy came, each by a random ID, itself first. An origin sends none. It is no secret, and nothing is trusted for it: it
// shows a mirror that its upstreams have from it what it asks them for.
const ViaHeader = "Box-Update-Via"

const (
	maxVia   = 16 // mirrors that are named
	viaBytes = 8  // of an ID
)

// ParseVia returns the IDs in a ViaHeader, nil for what is none.
func ParseVia(s string) []string {
	if len(s) > maxVia*(2*viaBytes+2) {
		return nil
	}
	ids := strings.Split(s, ", ")
	for _, id := range ids {
		if b, err := hex.DecodeString(id); err != nil || len(b) != viaBytes || strings.ToLower(id) != id {
			return nil
		}
	}
	return ids
}

// FormatVia returns the ViaHeader of a mirror with that ID, whose copy came through those mirrors.
func FormatVia(id string, through []string) string {
	return strings.Join(append([]string{id}, through[:min(len(through), maxVia-1)]...), ", ")
}

// Via returns the mirrors through which the timestamp came that the upstream sent last, itself first; nil for an origin.
func (u *Upstream) Via() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.via
}

func (u *Upstream) noteVia(h http.Header) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.via = ParseVia(h.Get(ViaHeader))
}
