package mirror

import (
	"crypto/rand"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/openpowerquality/box-update-server/mirror/fetch"
)

const (
	maxVia  = 16 // mirrors that fetch.ViaHeader names
	idBytes = 8
)

// newID returns a random ID for this mirror. Each start makes another one, so that a copy of the directory is not
// taken for this mirror. IDs are neither secret nor trusted.
func newID() string {
	var b [idBytes]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// parseVia returns the IDs in a fetch.ViaHeader, nil if it is malformed.
func parseVia(s string) []string {
	if len(s) > maxVia*(2*idBytes+2) {
		return nil
	}
	ids := strings.Split(s, ", ")
	for _, id := range ids {
		if b, err := hex.DecodeString(id); err != nil || len(b) != idBytes || strings.ToLower(id) != id {
			return nil
		}
	}
	return ids
}

func formatVia(id string, through []string) string {
	return strings.Join(append([]string{id}, through[:min(len(through), maxVia-1)]...), ", ")
}

// Via returns the header field for answers with the timestamp, fetch.ViaHeader: the ID of this mirror, and then those
// of the mirrors through which its copy came, by the shortest way that does not lead back here, if there is one. By it
// a mirror notices that its upstream copies from the mirror itself.
func (m *Mirror) Via() (field, value string) {
	var through, back []string
	found := false
	for _, u := range m.c.Client.Upstreams() {
		via := parseVia(u.Via())
		if i := slices.Index(via, m.id); i >= 0 {
			back = via[:i]
		} else if !found || len(via) < len(through) {
			through, found = via, true
		}
	}
	if !found {
		through = back
	}
	return fetch.ViaHeader, formatVia(m.id, through)
}

// loops reports whether an upstream copies from this mirror.
func (m *Mirror) loops(u *fetch.Upstream) bool { return slices.Contains(parseVia(u.Via()), m.id) }
