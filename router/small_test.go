package router

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/router/front"
)

// TestSmallRangesToALateReader asks for more than a connection takes before it reads the first answer, so
// that sending stops in the middle of headers and of bodies.
func TestSmallRangesToALateReader(t *testing.T) {
	for name, c := range map[string]struct{ requests, most int }{"bodies": {1000, front.SmallBody}, "headers": {20_000, 50}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			readsLate(t, c.requests, c.most)
		})
	}
}

// readsLate asks for ranges of up to most bytes.
func readsLate(t *testing.T, requests, most int) {
	t.Helper()
	f := newFake(t)
	body := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(body) // never fails
	f.add(t, newName, body, true)
	var answers count
	addr := start(t, Config{Source: f, Requests: answers.logger()})
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.(*net.TCPConn).SetReadBuffer(128 << 10); err != nil {
		t.Fatal(err)
	}
	offset := func(i int) int { return i * 977 % (len(body) - front.SmallBody) }
	length := func(i int) int { return most - i*i%most }
	sent := make(chan error, 1)
	go func() {
		var all strings.Builder
		for i := range requests {
			fmt.Fprintf(&all, "GET /update/%s HTTP/1.1\r\nHost: test\r\nRange: bytes=%d-%d\r\n\r\n", newName, offset(i), offset(i)+length(i)-1)
		}
		_, err := io.WriteString(c, all.String())
		sent <- err
	}()
	still, last := 0, int64(0)
	testworld.Await(t, "the server can send no more", func() bool {
		now := answers.n.Load()
		if still++; now != last || now == 0 {
			still, last = 0, now
		}
		return still == 20
	})
	if last == int64(requests) {
		t.Error("the connection took all that was sent")
	}
	r, first := bufio.NewReader(c), ""
	for i := range requests {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
		if _, err := http.ParseTime(resp.Header.Get("Date")); err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
		wantRange := fmt.Sprintf("bytes %d-%d/%d", offset(i), offset(i)+length(i)-1, len(body))
		if h := resp.Header.Get("Content-Range"); h != wantRange || resp.ContentLength != int64(length(i)) {
			t.Fatalf("answer %d: %d bytes, range %q, want %q", i, resp.ContentLength, h, wantRange)
		}
		for _, varies := range []string{"Content-Length", "Content-Range", "Date"} {
			resp.Header.Del(varies)
		}
		header := fmt.Sprint(resp.Status, resp.Header)
		if first == "" {
			first = header
		}
		if header != first {
			t.Fatalf("answer %d: %s\nthe first: %s", i, header, first)
		}
		got, err := io.ReadAll(resp.Body)
		if want := body[offset(i) : offset(i)+length(i)]; err != nil || string(got) != string(want) {
			t.Fatalf("answer %d: %v, and %d bytes that are not the %d wanted", i, err, len(got), len(want))
		}
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

// count counts the lines of a log. A request is logged after it was answered and counted.
type count struct{ n atomic.Int64 }

func (c *count) logger() *slog.Logger { return slog.New(slog.NewTextHandler(c, nil)) }

// await waits until n requests were logged.
func (c *count) await(t *testing.T, n int64) {
	t.Helper()
	testworld.Await(t, fmt.Sprintf("%d requests are counted", n), func() bool { return c.n.Load() >= n })
}

func (c *count) Write(p []byte) (int, error) {
	c.n.Add(1)
	return len(p), nil
}

// TestSmallBodyLeavesWithItsHeader watches the system calls: one for an answer, and no sendfile.
func TestSmallBodyLeavesWithItsHeader(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed")
	}
	t.Setenv(bandwidthEnv, "0")
	dir := t.TempDir()
	body := strings.Repeat("0123456789abcdef", 8<<10)
	if err := os.WriteFile(filepath.Join(dir, newName), []byte(body), 0o644); err != nil {
		t.Fatal(err)
	}
	trace := filepath.Join(dir, "trace")
	wait, addr := traced(t, dir, strace, "-f", "-o", trace, "-e", "trace=sendfile,write,writev,sendmsg,sendto,pwrite64,splice")
	for range 3 {
		if a := get(t, addr, "/update/"+newName, "Range: bytes=100-65635"); a.body != body[100:65636] {
			t.Error("the bytes differ")
		}
	}
	wait()
	sent := sums(t, trace)
	if n := sent["write"]; n < 3*front.SmallBody || n > 3*(front.SmallBody+4096) || sent["sendfile"] != 0 {
		t.Errorf("expected %d bytes and their headers written, got %v", 3*front.SmallBody, sent)
	}
	calls, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(calls), `"HTTP/1.1 206`); n != 3 {
		t.Errorf("expected 3 answers, got %d", n)
	}
}
