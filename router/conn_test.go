package router

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/router/front"
)

// lines collects what is logged.
type lines struct{ testworld.Log }

// download begins a download and returns after the header. The receive buffer is small, yet holds two
// segments of the loopback device: below that the kernel opens its window by timer only.
func download(t *testing.T, addr, path string) io.Reader {
	t.Helper()
	return downloadFrom(t, net.Dialer{}, addr, path)
}

func downloadFrom(t *testing.T, d net.Dialer, addr, path string) io.Reader {
	t.Helper()
	c, err := d.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.(*net.TCPConn).SetReadBuffer(128 << 10); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: test\r\n\r\n", path); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReaderSize(c, 512)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%v %v", resp, err)
	}
	return r
}

func TestStalledClientIsCut(t *testing.T) {
	f := newFake(t)
	f.add(t, newName, make([]byte, 16<<20), true)
	var log lines
	addr := start(t, Config{
		Source: f, Logger: slog.New(slog.NewTextHandler(&log, nil)), Requests: slog.New(slog.NewTextHandler(&log, nil)),
		Front: front.Config{StallWindow: 100 * time.Millisecond, MinRate: 1000},
	})
	r := download(t, addr, "/update/"+newName)
	testworld.Await(t, "the stall is logged", func() bool { return strings.Contains(log.String(), "the client has stalled") })
	if n, err := io.Copy(io.Discard, r); err == nil && n == 16<<20 {
		t.Error("the whole body arrived")
	}
}

// The client takes far less in a window than a third of the send buffer, so that the connection is
// never writable at a window's end; only what it acknowledges shows that it lives.
func TestSlowClientIsNotCut(t *testing.T) {
	f := newFake(t)
	body := bytes.Repeat([]byte("slow but living "), 8<<16)
	f.add(t, newName, body, true)
	addr := start(t, Config{Source: f, Front: front.Config{StallWindow: 150 * time.Millisecond, MinRate: 1000}})
	r := download(t, addr, "/update/"+newName)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	begun := time.Now()
	var have bytes.Buffer
	for have.Len() < len(body) {
		<-tick.C
		if _, err := io.CopyN(&have, r, min(64<<10, int64(len(body)-have.Len()))); err != nil {
			t.Fatalf("after %v and %d bytes: %v", time.Since(begun), have.Len(), err)
		}
	}
	if !bytes.Equal(have.Bytes(), body) {
		t.Error("the bytes differ")
	}
}

// A connection on which nothing comes is closed, before its first request and after one.
func TestIdleConnectionIsClosed(t *testing.T) {
	s, err := NewServer(Config{Source: newFake(t), Front: front.Config{IdleTimeout: 300 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(inner) }()
	for what, asks := range map[string]bool{"before a request": false, "after a request": true} {
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if asks {
			askOn(t, c, "GET /livez HTTP/1.1").hold(t, 200, nil)
		}
		if err := c.SetReadDeadline(time.Now().Add(testworld.Patience)); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("%s: expected the connection to be closed, got %d bytes and %v", what, n, err)
		}
		_ = c.Close()
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	<-done
}

func TestShutdownClosesParked(t *testing.T) {
	s, err := NewServer(Config{Source: newFake(t)})
	if err != nil {
		t.Fatal(err)
	}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(inner) }()
	c, err := net.Dial("tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	askOn(t, c, "GET /livez HTTP/1.1").hold(t, 200, nil)
	if err := s.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	<-done
	if n, err := c.Read(make([]byte, 1)); err == nil {
		t.Errorf("read %d bytes of a connection that should be closed", n)
	}
}

func TestRequestLine(t *testing.T) {
	f := newFake(t)
	f.add(t, newName, []byte("0123456789"), true)
	var log lines
	addr := start(t, Config{Source: f, Logger: slog.New(slog.NewTextHandler(&log, nil)), Requests: slog.New(slog.NewTextHandler(&log, nil))})
	get(t, addr, "/update/"+newName, "Range: bytes=2-5").hold(t, 206, nil)
	testworld.Await(t, "the first line is there", func() bool { return strings.Count(log.String(), "\n") == 1 })
	get(t, addr, "/x%0aforged%1b[31m").hold(t, 404, nil)
	testworld.Await(t, "both lines are there", func() bool { return strings.Count(log.String(), "\n") == 2 })
	first, second, _ := strings.Cut(log.String(), "\n")
	for _, want := range []string{"msg=request", "method=GET", "path=/update/" + newName, "status=206", "bytes=4", "duration=", `range="bytes=2-5"`} {
		if !strings.Contains(first, want) {
			t.Errorf("%q is not in %s", want, first)
		}
	}
	if !strings.Contains(second, `path="/x\nforged\x1b[31m"`) || !strings.Contains(second, "status=404") {
		t.Errorf("second line: %s", second)
	}
}
