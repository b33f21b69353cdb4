package mirror

import (
	"crypto/rand"
	"encoding/hex"
	"slices"

	"github.com/openpowerquality/box-update-server/mirror/fetch"
)

// newID returns an ID by which this mirror knows itself again. It is another one after each start, so that a copy of
// its directory is no second one of it.
func newID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// Via returns a field for answers for the timestamp: fetch.ViaHeader, with the shortest way to what is no mirror or,
// where each way leads back here, with one of those.
func (m *Mirror) Via() (field, value string) {
	var way, back []string
	straight := false
	for _, u := range m.c.Client.Upstreams() {
		via := u.Via()
		if i := slices.Index(via, m.id); i >= 0 {
			back = via[:i]
		} else if !straight || len(via) < len(way) {
			way, straight = via, true
		}
	}
	if !straight {
		way = back
	}
	return fetch.ViaHeader, fetch.FormatVia(m.id, way)
}

// loops reports whether an upstream copies from this mirror.
func (m *Mirror) loops(u *fetch.Upstream) bool { return slices.Contains(u.Via(), m.id) }
