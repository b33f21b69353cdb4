package main_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
)

// download asks for an archive on a connection whose kernel buffers little, and returns what is
// left to read of the answer's body.
func download(t *testing.T, s *server, path string) (c net.Conn, body io.Reader) {
	t.Helper()
	small := net.Dialer{Timeout: patience, Control: func(_, _ string, raw syscall.RawConn) (err error) {
		if e := raw.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) }); e != nil {
			return e
		}
		return err
	}}
	c, err := small.DialContext(t.Context(), "tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	send(t, c, "GET "+path+" HTTP/1.1\r\nHost: box\r\nConnection: close\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReaderSize(c, 16), nil)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%v: %+v", err, resp)
	}
	return c, resp.Body
}

// trickle reads so many bytes each time the ticker ticks, until done.
func trickle(r io.Reader, size int64, every time.Duration, done <-chan struct{}) (total int64, err error) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		n, err := io.CopyN(io.Discard, r, size)
		total += n
		if err != nil {
			return total, err
		}
		select {
		case <-done:
			return total, nil
		case <-tick.C:
		}
	}
}

// Health is answered while a client reads a byte a second, another one a download of 2 GB, and 1,000 connections are idle.
func TestHealthUnderLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sparse(t, dir, newest, 2<<30)
	s := launch{settings: map[string]any{"updates_dir": dir, "log_requests": false}}.start(t)
	for range 1000 {
		dial(t, s.addr)
	}
	_, slow := download(t, s, "/update/"+newest)
	_, living := download(t, s, "/update/"+newest)
	others, answered := make(chan error, 2), make(chan struct{})
	go func() { _, err := trickle(slow, 1, time.Second, answered); others <- err }()
	go func() { _, err := trickle(living, 64<<10, 10*time.Millisecond, answered); others <- err }()

	took := measure(t, s.base, 500)
	close(answered)
	t.Logf("/ beside the load: median %v, p99 %v, slowest %v", took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
	for range 2 {
		if err := <-others; err != nil {
			t.Error(err)
		}
	}
}

// measure asks for "/" so many times, one after the other, and returns how long each took, sorted.
func measure(t *testing.T, base string, times int) (took []time.Duration) {
	t.Helper()
	client := &http.Client{Timeout: patience, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for range times {
		start := time.Now()
		resp, err := client.Get(base + "/")
		if err != nil {
			t.Fatal(err)
		}
		if a, err := readAnswer(resp); err != nil || a.status != 200 {
			t.Fatalf("%v: %+v", err, a)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return took
}

// An archive of 2 GB goes out in memory that does not depend on its size.
func archivesAreNotHeldInMemory(t *testing.T) {
	dir := t.TempDir()
	const size = 1 << 30
	sparse(t, dir, newest, size)
	s := serve(t, dir)
	resp, err := http.Get(s.base + "/update/" + newest)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := io.CopyN(io.Discard, resp.Body, size/2); err != nil {
		t.Fatalf("%v after %d bytes", err, n)
	}
	if peak := s.peakMemory(t); peak > 200<<20 {
		t.Errorf("the server took %d MB of memory", peak>>20)
	}
}

// peakMemory returns the most resident memory that a server ever had, in bytes.
func (s *server) peakMemory(t *testing.T) int64 {
	t.Helper()
	return s.memory(t, "VmHWM:")
}

// memory returns a field of the server's status in /proc, in bytes.
func (s *server) memory(t *testing.T, field string) int64 {
	t.Helper()
	for line := range strings.Lines(string(read(t, fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid)))) {
		if f := strings.Fields(line); f[0] == field {
			kB, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kB << 10
		}
	}
	t.Fatalf("no %s", field)
	return 0
}

// stalledClientsAreCut holds that connections end which don't end their header or don't take their
// download, and that a slow download that goes on does not.
func stalledClientsAreCut(t *testing.T) {
	dir := t.TempDir()
	const size = 16 << 20
	sparse(t, dir, newest, size)
	s := launch{settings: map[string]any{"updates_dir": dir, "stall_window": "1s", "min_rate": 1000}}.start(t)
	header := dial(t, s.addr)
	send(t, header, "GET / HTTP/1.1\r\nHost: box\r\n")
	download(t, s, "/update/"+newest) // and never reads

	_, living := download(t, s, "/update/"+newest)
	four := make(chan struct{})
	time.AfterFunc(4*time.Second, func() { close(four) }) // four times the window
	n, err := trickle(living, 20_000, 50*time.Millisecond, four)
	if err != nil {
		t.Fatalf("a slow download was cut after %d bytes: %v", n, err)
	}
	s.awaitLog(t, "path=/update/"+newest, "stalled")
	if rest, err := io.Copy(io.Discard, living); err != nil || n+rest != size {
		t.Errorf("a slow download ended after %d bytes: %v", n+rest, err)
	}

	testworld.Await(t, "the end of an endless header", func() bool {
		_, err := io.WriteString(header, "X: y\r\n")
		return err != nil
	})
}

// A download that runs is not held up by a listing, and not by the end of what it reads: what was
// opened is read to its end, even where the file is gone from the directory.
func TestDownloadOutlivesItsFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const size = 16 << 20
	sparse(t, dir, newest, size)
	s := serve(t, dir)
	_, body := download(t, s, "/update/"+newest)
	if err := os.Remove(dir + "/" + newest); err != nil {
		t.Fatal(err)
	}
	s.await(t, "/latest", 503)
	if n, err := io.Copy(io.Discard, body); err != nil || n != size {
		t.Errorf("got %d bytes: %v", n, err)
	}
}
