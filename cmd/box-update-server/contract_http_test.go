package main_test

import (
	"net/http"
	"path"
	"strings"
	"testing"
)

// paths are those that clients of a fleet ask for.
func paths() []string {
	return []string{"/", "/ls", "/version", "/latest", "/update/" + newest}
}

func http10IsSpoken(t *testing.T, s site) {
	host, prefix, _ := strings.Cut(strings.TrimPrefix(s.base, "http://"), "/")
	if prefix != "" {
		prefix = "/" + prefix
	}
	archive := read(t, s.dir, newest)
	for _, p := range paths() {
		a := parse(t, raw(t, host, "GET "+prefix+p+" HTTP/1.0\r\n\r\n"))
		want := get(t, s.base+p)
		if a.status != want.status || p != "/" && a.body != want.body || a.header.Get("Transfer-Encoding") != "" {
			t.Errorf("%s: got %d with %d bytes, want %d with %d", p, a.status, len(a.body), want.status, len(want.body))
		}
	}
	parse(t, raw(t, host, "GET "+prefix+"/update/"+newest+" HTTP/1.0\r\n\r\n")).isArchive(t, newest, archive)
}

func leadingSlashesCollapse(t *testing.T, s site) {
	for _, p := range paths() {
		want := get(t, s.base+p)
		for _, slashes := range []string{"/", "//", "//////"} {
			got := get(t, s.base+slashes+p)
			if got.status != want.status || p != "/" && got.body != want.body ||
				path.Base(got.header.Get("Location")) != path.Base(want.header.Get("Location")) {
				t.Errorf("%s%s: got %d %.40q, want %d %.40q", slashes, p, got.status, got.body, want.status, want.body)
			}
		}
	}
}

// What is answered to GET is answered to HEAD, but for the body.
func headIsAnsweredAsGet(t *testing.T, s site) {
	for _, p := range append(paths(), "/nothing", "/updates.json") {
		got, want := do(t, http.MethodHead, s.base+p), get(t, s.base+p)
		if got.status != want.status || got.body != "" || p != "/" && got.length != want.length {
			t.Errorf("HEAD %s: got %d, length %d, body %q; want %d, length %d", p, got.status, got.length, got.body, want.status, want.length)
		}
		for _, h := range []string{"Content-Type", "Content-Disposition", "Location", "Etag", "Cache-Control", "Accept-Ranges"} {
			got.has(t, h, want.header.Get(h))
		}
	}
}

func otherMethodsAreRefused(t *testing.T, s site) {
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"} {
		for _, p := range paths() {
			a := do(t, method, s.base+p)
			if a.status != http.StatusMethodNotAllowed {
				t.Errorf("%s %s: got %d", method, p, a.status)
			}
			a.has(t, "Allow", "GET, HEAD")
		}
	}
}

func rangesAreServed(t *testing.T, s site) {
	archive := string(read(t, s.dir, newest))
	a := get(t, s.base+"/update/"+newest, "Range", "bytes=10-19")
	a.is(t, 206, "application/octet-stream", archive[10:20])
	get(t, s.base+"/update/"+newest).has(t, "Accept-Ranges", "bytes")
}

func cutDownloadsResume(t *testing.T, s site) {
	archive := string(read(t, s.dir, newest))
	a := get(t, s.base+"/update/"+newest, "Range", "bytes=100-")
	a.is(t, 206, "application/octet-stream", archive[100:])
}

func onlyRegularFilesAreServed(t *testing.T, s site) {
	for _, n := range []string{
		".opq-box-update-9999999999.tar.bz2", ".hidden", "README.md", // dotfiles and other files
		"opq-box-update-9999999999.tar.bz2.part",                                 // a partial upload
		"opq-box-update-7777777777.tar.bz2", "opq-box-update-7777777778.tar.bz2", // symbolic links
		"opq-box-update-8888888888.tar.bz2", "opq-box-update-9999999999.tar.bz2", // a FIFO, a directory
	} {
		get(t, s.base+"/update/"+n).isNotFound(t)
	}
}

func slowClientsBlockNobody(t *testing.T) {
	dir := t.TempDir()
	sparse(t, dir, newest, 64<<20)
	s := serve(t, dir)
	for range 4 {
		dial(t, s.addr) // idle
		send(t, dial(t, s.addr), "GET /update/"+newest+" HTTP/1.1\r\nHost: box\r\n\r\n")
		send(t, dial(t, s.addr), "GET / HTTP/1.1\r\nHos")
	}
	health(t, s.base) // else it would wait until they are cut
}
