package fetch

import (
	"encoding/hex"
	"net/http"
	"strings"
)

// ViaHeader is a header field of answers with timestamp.json. In it a mirror names itself and then the mirrors
// through which its copy came, each by a random ID. An origin does not send it. It is neither secret nor trusted: by
// it a mirror notices that an upstream copies from the mirror itself.
const ViaHeader = "Box-Update-Via"

const (
	maxVia   = 16 // mirrors that are named
	viaBytes = 8  // of an ID
)

// ParseVia returns the IDs in a ViaHeader, nil if it is malformed.
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

// FormatVia returns the ViaHeader of a mirror with an ID, whose copy came through other mirrors.
func FormatVia(id string, through []string) string {
	return strings.Join(append([]string{id}, through[:min(len(through), maxVia-1)]...), ", ")
}

// Via returns the mirrors through which the last timestamp of the upstream came, the upstream first; nil for an
// origin.
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
