package router

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
)

// A got is an answer as it came over the wire.
type got struct {
	status int
	header http.Header
	body   string
}

// ask sends one request line and fields, byte by byte as given, and reads the answer.
func ask(t testing.TB, addr, line string, fields ...string) got {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	return askOn(t, c, line, fields...)
}

func askOn(t testing.TB, c net.Conn, line string, fields ...string) got {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(testworld.Patience)); err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(line, "HTTP/1.1") {
		fields = append(fields, "Host: test")
	}
	request := line + "\r\n" + strings.Join(append(fields, "", ""), "\r\n")
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(line, " ")
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return got{resp.StatusCode, resp.Header, string(body)}
}

func get(t testing.TB, addr, path string, fields ...string) got {
	t.Helper()
	return ask(t, addr, fmt.Sprintf("GET %s HTTP/1.1", path), fields...)
}

// hold compares the fields that want names; "-" wants a field to be absent.
func (g got) hold(t testing.TB, status int, want map[string]string) {
	t.Helper()
	if g.status != status {
		t.Errorf("status %d, want %d, body %.200q", g.status, status, g.body)
	}
	for k, v := range want {
		have, there := g.header[http.CanonicalHeaderKey(k)]
		if v == "-" {
			if there {
				t.Errorf("%s: %q, want none", k, have)
			}
			continue
		}
		if strings.Join(have, "|") != v {
			t.Errorf("%s: %q, want %q", k, have, v)
		}
	}
}
