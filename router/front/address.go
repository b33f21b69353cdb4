package front

import (
	"net/http"
	"net/netip"
	"strings"
)

// An Address identifies one client, however many connections it opens: an IPv4 address, or the /64 of an IPv6
// address, since one customer gets a /64. The zero Address stands for all clients whose address is not known.
type Address netip.Prefix

// AddressOf returns the Address of an IP address.
func AddressOf(ip netip.Addr) Address {
	ip = ip.Unmap().WithZone("")
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	p, _ := ip.Prefix(bits) // fails for the zero address alone
	return Address(p)
}

// ClientOf returns the client that sent a request: the peer of its connection or, if that is a trusted proxy, the
// client that the proxy names. Each proxy appends its peer to X-Forwarded-For, so the list is read from its end, up
// to the first address that is no trusted proxy's. The client may have invented everything before that address.
func ClientOf(r *http.Request, trusted []netip.Prefix) Address {
	peer, ok := parseHost(r.RemoteAddr)
	if !ok {
		return Address{}
	}
	named := strings.Split(strings.Join(r.Header["X-Forwarded-For"], ","), ",")
	for i := len(named) - 1; i >= 0 && within(peer, trusted); i-- {
		next, ok := parseHost(strings.TrimSpace(named[i]))
		if !ok {
			break
		}
		peer = next
	}
	return AddressOf(peer)
}

// parseHost parses an IP address, with a port or without.
func parseHost(s string) (netip.Addr, bool) {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap(), true
	}
	ip, err := netip.ParseAddr(s)
	return ip.Unmap(), err == nil
}

func within(ip netip.Addr, prefixes []netip.Prefix) bool {
	for _, p := range prefixes {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}
