package front

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

func TestClientOf(t *testing.T) {
	t.Parallel()
	trusted := []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, test := range []struct{ remote, forwarded, want string }{
		{"192.0.2.1:5", "", "192.0.2.1/32"},
		{"[2001:db8:1:2:3::4]:5", "", "2001:db8:1:2::/64"},
		{"[::ffff:192.0.2.1]:5", "", "192.0.2.1/32"},
		{"[fe80::1%eth0]:5", "", "fe80::/64"},
		{"192.0.2.1:5", "198.51.100.1", "192.0.2.1/32"}, // nobody asked it
		{"127.0.0.1:5", "", "127.0.0.1/32"},
		{"127.0.0.1:5", "198.51.100.1", "198.51.100.1/32"},
		{"127.0.0.1:5", "203.0.113.9, 198.51.100.1", "198.51.100.1/32"}, // the client wrote the first
		{"127.0.0.1:5", "203.0.113.9,198.51.100.1 , 10.1.2.3", "198.51.100.1/32"},
		{"127.0.0.1:5", "198.51.100.1|10.1.2.3", "198.51.100.1/32"}, // two fields
		{"127.0.0.1:5", "10.1.2.3", "10.1.2.3/32"},
		{"127.0.0.1:5", "unknown, 10.1.2.3", "10.1.2.3/32"},
		{"[fd00::1]:5", "[2001:db8::1]:7", "2001:db8::/64"},
		{"[::ffff:127.0.0.1]:5", "198.51.100.1:99", "198.51.100.1/32"},
		{"@", "198.51.100.1", "invalid Prefix"},
	} {
		r := &http.Request{RemoteAddr: test.remote, Header: http.Header{}}
		if test.forwarded != "" {
			r.Header["X-Forwarded-For"] = strings.Split(test.forwarded, "|")
		}
		if got := netip.Prefix(ClientOf(r, trusted)).String(); got != test.want {
			t.Errorf("%s, %q: %s, want %s", test.remote, test.forwarded, got, test.want)
		}
	}
}
