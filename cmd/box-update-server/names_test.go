package main_test

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"
)

// hostileTargets are spellings of request targets that name nothing which is served.
func hostileTargets() []string {
	long := strings.Repeat("9", 4096)
	targets := []string{"/../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc%2fpasswd", "/etc/passwd", "/%00", "/\\..\\etc"}
	for _, n := range []string{
		"..", "../" + newest, "../../etc/passwd", "%2e%2e", "%2e%2e%2f" + newest, "..%2f..%2fetc%2fpasswd", "%2fetc%2fpasswd",
		"./" + newest, "/" + newest, newest + "/..", newest + "%00", "%00" + newest, newest + "%00.tar.bz2", newest + "%0a", newest + "%20",
		strings.ToUpper(newest), "%6fpq-box-update-1550190683.tar.bz2", "opq-box-update-1550190683%2etar.bz2", newest + ".", newest + ";", newest + ".SHA256",
		"opq-box-update-7777777777.tar.bz2", "opq-box-update-7777777778.tar.bz2", // symbolic links
		"opq-box-update-8888888888.tar.bz2", // a FIFO
		"opq-box-update-9999999999.tar.bz2", // a directory
		".opq-box-update-9999999999.tar.bz2", ".hidden", "README.md", "opq-box-update-latest.tar.bz2",
		"opq-box-update-" + long + ".tar.bz2", long, strings.Repeat("../", 1365), strings.Repeat("%2e", 1365),
		"opq-box-update-+1550190683.tar.bz2", "opq-box-update-01550190683.tar.bz2", "opq-box-update-１.tar.bz2",
	} {
		targets = append(targets, "/update/"+n, "/update/"+n+".sha256")
	}
	known := digest(body(newest))
	for _, d := range []string{
		strings.ToUpper(known), known[1:], known + "0", known + "%00", "%2e%2e", "..%2f" + newest, newest, known + ".SHA256",
		known + ".sig/..", known + "/", "../update/" + newest, known + ".sha256.sha256", known[:63] + "g", long, digest([]byte("unknown")),
	} {
		targets = append(targets, "/sha256/"+d, "/sha256/"+d+".blocks")
	}
	return targets
}

func TestHostileNames(t *testing.T) {
	t.Parallel()
	dir := dropped(t, newest)
	clutter(t, dir)
	s := serve(t, dir)
	s.awaitHashed(t, newest)
	for _, target := range hostileTargets() {
		a := rawGet(t, s.addr, target)
		if a.isNotFound(t); t.Failed() {
			t.Fatalf("for %.100s", target)
		}
	}
	rawGet(t, s.addr, "/update/"+newest).isArchive(t, newest, body(newest))
	rawGet(t, s.addr, "/sha256/"+digest(body(newest))).isArchive(t, newest, body(newest))
}

// What is no HTTP is refused without harm.
func TestGarbageOnTheWire(t *testing.T) {
	t.Parallel()
	s := serve(t, dropped(t, newest))
	for _, request := range []string{
		"\x00\x01\x02\x03\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET  /  HTTP/1.1\r\n\r\n",
		"GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "GET /%zz HTTP/1.1\r\nHost: box\r\n\r\n",
		"GET /" + strings.Repeat("a", 1<<20) + " HTTP/1.1\r\nHost: box\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: box\r\nX: " + strings.Repeat("a", 1<<20) + "\r\n\r\n",
		"GET /\x00 HTTP/1.1\r\nHost: box\r\n\r\n", "GET /update/\xff HTTP/1.1\r\nHost: box\r\nConnection: close\r\n\r\n",
	} {
		if got := exchange(t, s.addr, request); !strings.HasPrefix(got, "HTTP/1.1 4") && !strings.HasPrefix(got, "HTTP/1.1 5") && got != "" {
			t.Errorf("%.40q: got %.100q", request, got)
		}
	}
	get(t, s.base+"/version").is(t, 200, "text/plain", "1550190683")
}

// exchange sends bytes and returns what comes back until the server hangs up, which it may do before
// it has read all.
func exchange(t *testing.T, addr, request string) string {
	t.Helper()
	c := dial(t, addr)
	_, writeErr := io.WriteString(c, request)
	b, readErr := io.ReadAll(c)
	for _, err := range []error{writeErr, readErr} {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%.40q: %v after %.100q", request, err, b)
		}
	}
	return string(b)
}
