package front

import (
	"net/http"
	"net/netip"
	"strings"
)

// An Address is what one client counts as, whatever it opens: an IPv4 address, or the /64 of an IPv6
// address, which is what one customer gets. The zero Address stands for all whose address is not known.
type Address netip.Prefix

// AddressOf returns the address that an IP address belongs to.
func AddressOf(ip netip.Addr) Address {
	ip = ip.Unmap().WithZone("")
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	p, _ := ip.Prefix(bits) // fails for the zero address alone
	return Address(p)
}

// ClientOf returns whose request it is: the peer of its connection or, where that is a trusted proxy, whom
// the proxy names. Each proxy appends its peer to X-Forwarded-For, so the list is read from its end, and
// whatever stands before the first address that is no trusted proxy's is the client's own invention.
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
