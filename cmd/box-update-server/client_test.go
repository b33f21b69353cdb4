package main_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
)

// An answer is a whole HTTP answer.
type answer struct {
	status int
	header http.Header
	length int64 // what the header says; -1: nothing
	body   string
}

// get asks with GET; header holds names and values in turn.
func get(t *testing.T, url string, header ...string) answer {
	t.Helper()
	return do(t, http.MethodGet, url, header...)
}

// do asks on a connection of its own, follows no redirect and asks for no compression.
func do(t *testing.T, method, url string, header ...string) answer {
	t.Helper()
	a, err := try(method, url, header...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func try(method, url string, header ...string) (answer, error) {
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		return answer{}, err
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	client := &http.Client{
		Transport:     &http.Transport{DisableCompression: true, DisableKeepAlives: true},
		Timeout:       patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if strings.HasSuffix(req.URL.Host, ".admin") {
		client.Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) { return dialAdmin(req.URL.Host) }
	}
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	return readAnswer(resp)
}

func readAnswer(resp *http.Response) (answer, error) {
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, resp.ContentLength, string(b)}, err
}

// dial connects to a server; the connection is closed when the test ends.
func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

// raw sends bytes as they are and returns everything that comes until the server hangs up.
func raw(t *testing.T, addr, request string) string {
	t.Helper()
	c := dial(t, addr)
	send(t, c, request)
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("%.80q: %v after %q", request, err, b)
	}
	return string(b)
}

func send(t *testing.T, c net.Conn, request string) {
	t.Helper()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
}

// rawGet asks for a target exactly as it is spelled, with HTTP/1.1.
func rawGet(t *testing.T, addr, target string) answer {
	t.Helper()
	return parse(t, raw(t, addr, "GET "+target+" HTTP/1.1\r\nHost: box\r\nConnection: close\r\n\r\n"))
}

func parse(t *testing.T, text string) answer {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(text)), nil)
	if err != nil {
		t.Fatalf("%v: %.200q", err, text)
	}
	a, err := readAnswer(resp)
	if err != nil {
		t.Fatalf("%v: %.200q", err, text)
	}
	return a
}

// is fails the test unless an answer has this status, content type and body.
func (a answer) is(t *testing.T, status int, contentType, body string) {
	t.Helper()
	mediaType, _, _ := strings.Cut(a.header.Get("Content-Type"), ";")
	if a.status != status || mediaType != contentType || a.body != body {
		t.Errorf("got %d %s %.300q\nwant %d %s %.300q", a.status, mediaType, a.body, status, contentType, body)
	}
}

// isNotFound fails the test unless an answer is the one for whatever is not there.
func (a answer) isNotFound(t *testing.T) {
	t.Helper()
	a.is(t, http.StatusNotFound, "text/plain", "Resource not found.")
}

// isRedirect fails the test unless an answer leads to this place and has no body.
func (a answer) isRedirect(t *testing.T, location string) {
	t.Helper()
	if a.status != http.StatusSeeOther || a.body != "" || a.header.Get("Location") != location {
		t.Errorf("got %d to %q with body %q, want 303 to %q", a.status, a.header.Get("Location"), a.body, location)
	}
}

// has fails the test unless a header has this value.
func (a answer) has(t *testing.T, header, value string) {
	t.Helper()
	if got := a.header.Get(header); got != value {
		t.Errorf("%s: got %q, want %q", header, got, value)
	}
}

// isArchive fails the test unless an answer is a whole archive as a download.
func (a answer) isArchive(t *testing.T, name string, body []byte) {
	t.Helper()
	if a.status != http.StatusOK || !bytes.Equal([]byte(a.body), body) || a.length != int64(len(body)) {
		t.Errorf("%s: got %d with %d bytes, length %d; want 200 with %d", name, a.status, len(a.body), a.length, len(body))
	}
	a.has(t, "Content-Type", "application/octet-stream")
	a.has(t, "Content-Disposition", `attachment; filename="`+name+`"`)
}

// awaitHashed waits until the digest of an archive can be had.
func (s *server) awaitHashed(t *testing.T, name string) (line string) {
	t.Helper()
	testworld.Await(t, "digest of "+name, func() bool {
		a := get(t, s.base+"/update/"+name+".sha256")
		line = a.body
		return a.status == http.StatusOK
	})
	return line
}

// await waits until a path is answered with this status and returns the answer.
func (s *server) await(t *testing.T, path string, status int) (a answer) {
	t.Helper()
	testworld.Await(t, path+" answers "+http.StatusText(status), func() bool {
		a = get(t, s.base+path)
		return a.status == status
	})
	return a
}
