package main_test

import (
	"bytes"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// wgetLatest does what a box does, and fails the test unless it gets this archive.
func wgetLatest(t *testing.T, endpoint string, archive []byte) {
	t.Helper()
	dir := t.TempDir()
	command(t, dir, need(t, "wget", "wget"), "--no-config", endpoint+"/latest", "-O", "update.tar.bz2")
	if got := read(t, dir, "update.tar.bz2"); !bytes.Equal(got, archive) {
		t.Errorf("%s: got %d bytes, want the %d of the archive", endpoint, len(got), len(archive))
	}
}

func TestWget(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pack(t, dir, newest, proper())
	s := serve(t, dir)
	for _, endpoint := range []string{s.base, s.base + "/"} {
		wgetLatest(t, endpoint, read(t, dir, newest))
	}
}

// A box whose update server has nothing, or nothing any more, must see wget fail.
func TestWgetFailsWithoutAnUpdate(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	out, err := attempt(t.TempDir(), need(t, "wget", "wget"), "--no-config", s.base+"/latest", "-O", "update.tar.bz2")
	if err == nil || !strings.Contains(out, "404") {
		t.Errorf("got %v: %s", err, out)
	}
}

func TestWgetResumes(t *testing.T) {
	t.Parallel()
	archive := pattern(3 << 20)
	dir := t.TempDir()
	still(t, write(t, dir, newest, archive))
	s := serve(t, dir)
	for _, c := range []struct {
		name  string
		fetch func(t *testing.T, dir, base string)
	}{
		{"by itself", func(t *testing.T, dir, base string) {
			command(t, dir, need(t, "wget", "wget"), "--no-config", "--tries=3", "--waitretry=0", base+"/latest", "-O", newest)
		}},
		{"when asked again", func(t *testing.T, dir, base string) {
			wget := need(t, "wget", "wget")
			if out, err := attempt(dir, wget, "--no-config", "--tries=1", base+"/update/"+newest); err == nil {
				t.Errorf("the download was not cut: %s", out)
			}
			command(t, dir, wget, "--no-config", "-c", base+"/update/"+newest)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newCuttingProxy(t, s.addr, 1<<20)
			box := t.TempDir()
			c.fetch(t, box, p.base)
			if got := read(t, box, newest); !bytes.Equal(got, archive) {
				t.Errorf("got %d bytes with digest %s, want %s", len(got), digest(got), digest(archive))
			}
			if !strings.Contains(p.requests.String(), "\nRange: bytes=") {
				t.Errorf("resumed without Range: %s", &p.requests)
			}
			s.awaitLog(t, "msg=request", "status=206", "range=")
		})
	}
}

// wgetMixesAReplacedFile: wget makes nothing of a whole file that answers its Range: it skips as many bytes as it has. So a
// file that is replaced during a download comes out as a mix, which its checksum line tells.
func wgetMixesAReplacedFile(t *testing.T) {
	wget, sum := need(t, "wget", "wget"), need(t, "sha256sum", "coreutils")
	s, old, now := replaced(t)
	dir := t.TempDir()
	write(t, dir, newest, []byte(old.body[:1000]))
	command(t, dir, wget, "--no-config", "-c", s.base+"/update/"+newest)
	s.awaitLog(t, "msg=request", "status=200", `range="bytes=1000-"`)
	if got := read(t, dir, newest); string(got) != old.body[:1000]+string(now[1000:]) {
		t.Errorf("wget no longer mixes: got %d bytes with digest %s", len(got), digest(got))
	}
	command(t, dir, wget, "--no-config", s.base+"/update/"+newest+".sha256")
	if out, err := attempt(dir, sum, "-c", newest+".sha256"); err == nil {
		t.Errorf("a mix passes: %s", out)
	}
	write(t, dir, newest, []byte(old.body[:1000]))
	out, err := attempt(dir, need(t, "curl", "curl"), "-fsSO", "-C", "-", s.base+"/update/"+newest)
	if err == nil || string(read(t, dir, newest)) != old.body[:1000] {
		t.Errorf("curl mixes: %v %s", err, out)
	}
	command(t, dir, wget, "--no-config", "-O", newest, s.base+"/update/"+newest)
	command(t, dir, sum, "-c", newest+".sha256")
}

// A cuttingProxy passes connections on, but cuts the first one that carries many bytes.
type cuttingProxy struct {
	base     string
	requests logged // what clients sent
	cut      sync.Once
}

// newCuttingProxy starts a proxy that cuts once, after this many bytes. It ends with the test.
func newCuttingProxy(t *testing.T, to string, after int64) *cuttingProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &cuttingProxy{base: "http://" + l.Addr().String()}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { p.pass(t, client, to, after) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		running.Wait()
	})
	return p
}

func (p *cuttingProxy) pass(t *testing.T, client net.Conn, to string, after int64) {
	defer client.Close()
	server, err := net.Dial("tcp", to)
	if err != nil {
		t.Error(err)
		return
	}
	defer server.Close()
	go func() {
		_, _ = io.Copy(io.MultiWriter(server, &p.requests), client)
		server.Close() // the client hung up
	}()
	if n, _ := io.CopyN(client, server, after); n < after {
		return
	}
	whole := true
	p.cut.Do(func() { whole = false })
	if whole {
		_, _ = io.Copy(client, server)
	}
}
