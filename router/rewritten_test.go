package router

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/testworld"
)

// A sent is a download of which the beginning has come.
type sent struct {
	fake *fake
	path string // of the file
	addr string
	log  *lines
	rest io.Reader
}

const sentSize = 64 << 20

// sending begins a download by a client that is in no hurry.
func sending(t *testing.T) sent {
	t.Helper()
	s := sent{fake: newFake(t), log: &lines{}}
	s.path = filepath.Join(s.fake.dir, newName)
	s.fake.add(t, newName, make([]byte, sentSize), true)
	s.addr = start(t, Config{Source: s.fake, Logger: slog.New(slog.NewTextHandler(s.log, nil))})
	s.rest = download(t, s.addr, "/update/"+newName)
	if _, err := io.CopyN(io.Discard, s.rest, 1<<20); err != nil {
		t.Fatal(err)
	}
	return s
}

// overwrite changes a byte of a file in place.
func overwrite(t *testing.T, path string, at int64) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt([]byte("x"), at); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
}

// Half of one archive and half of another is never a whole answer.
func TestRewrittenFileCutsItsDownloads(t *testing.T) {
	s := sending(t)
	overwrite(t, s.path, sentSize-1)
	if n, _ := io.Copy(io.Discard, s.rest); n+1<<20 >= sentSize {
		t.Errorf("%d bytes came, of %d", n+1<<20, sentSize)
	}
	testworld.Await(t, "it is logged", func() bool {
		return strings.Contains(s.log.String(), "download cut: the archive was written to while it was being sent") && strings.Contains(s.log.String(), newName)
	})
	// The next request gets what is there now.
	if g := get(t, s.addr, "/update/"+newName); g.status != http.StatusOK || !strings.HasSuffix(g.body, "\x00x") {
		t.Errorf("%d with %d bytes", g.status, len(g.body))
	}
}

// What only changes names, links and rights of a file leaves its bytes to those who read them.
func TestRemovedFileIsReadToItsEnd(t *testing.T) {
	s := sending(t)
	if err := errors.Join(os.Chmod(s.path, 0o444), os.Link(s.path, s.path+".link"), os.Rename(s.path, s.path+".old"), os.Remove(s.path+".old")); err != nil {
		t.Fatal(err)
	}
	if n, err := io.CopyN(io.Discard, s.rest, sentSize-1<<20); err != nil {
		t.Errorf("after %d more bytes: %v", n, err)
	}
	if strings.Contains(s.log.String(), "cut") {
		t.Errorf("log: %s", s.log)
	}
}

// Without sendfile, too.
func TestRewrittenFileIsNotRead(t *testing.T) {
	f := newFake(t)
	u := f.add(t, newName, []byte("0123456789"), true)
	files := newFiles(f)
	open, err := files.acquire(u)
	if err != nil {
		t.Fatal(err)
	}
	defer files.close()
	defer files.release(open)
	body := &content{file: open, size: u.Length}
	if _, err := io.ReadFull(body, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(f.dir, newName), 9); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(body); !errors.Is(err, errRewritten) {
		t.Errorf("read %q, %v", rest, err)
	}
}

// Range is defined for GET alone, and a range of what is no archive has to be ignored as well.
func TestRangeIsIgnored(t *testing.T) {
	f := newFake(t)
	u := f.add(t, newName, []byte("0123456789"), true)
	addr := start(t, Config{Source: f})
	for _, path := range []string{"/update/" + newName, "/ls", "/sha256/" + u.Digest.String() + ".blocks"} {
		whole := get(t, addr, path)
		if g := get(t, addr, path, "Range: items=0-1"); g.status != http.StatusOK || g.body != whole.body {
			t.Errorf("%s by item: %d %q", path, g.status, g.body)
		}
		want := map[string]string{"Content-Length": whole.header.Get("Content-Length"), "Content-Range": "-"}
		ask(t, addr, "HEAD "+path+" HTTP/1.1", "Range: bytes=0-1").hold(t, http.StatusOK, want)
	}
}

// A line of HEAD tells of no byte, since none was sent.
func TestRequestLineOfHEAD(t *testing.T) {
	f := newFake(t)
	f.add(t, newName, []byte("0123456789"), true)
	var log lines
	addr := start(t, Config{Source: f, Logger: slog.New(slog.NewTextHandler(&log, nil)), Requests: slog.New(slog.NewTextHandler(&log, nil))})
	for i, path := range []string{"/ls", "/livez", "/update/" + newName} {
		ask(t, addr, "HEAD "+path+" HTTP/1.1").hold(t, http.StatusOK, nil)
		testworld.Await(t, "its line is there", func() bool { return strings.Count(log.String(), "\n") == i+1 })
	}
	if n := strings.Count(log.String(), " bytes=0 "); n != 3 {
		t.Errorf("log:\n%s", &log)
	}
}

// A block list is rendered once, as long as there is room for it.
func TestBlockListIsRenderedOnce(t *testing.T) {
	f := newFake(t)
	u := f.add(t, newName, []byte("0123456789"), true)
	rt, err := newRouter(Config{Source: f}, newBodies(), newMetrics(nil))
	if err != nil {
		t.Fatal(err)
	}
	ask := func() int {
		w := httptest.NewRecorder()
		rt.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/sha256/"+u.Digest.String()+".blocks", nil))
		return w.Code
	}
	if got := ask(); got != http.StatusOK {
		t.Fatal(got)
	}
	f.fails = errors.New("asked again")
	if got := ask(); got != http.StatusOK {
		t.Errorf("the second time: %d", got)
	}
	has := func(name string) bool { _, ok := rt.blockLists.find(name); return ok }
	rt.blockLists.keep("huge", make([]byte, maxBlockLists), nil)
	if has("huge") {
		t.Error("a list that needs all the room is kept")
	}
	half := make([]byte, maxBlockLists/2)
	rt.blockLists.keep("first", half, nil)
	rt.blockLists.keep("second", half, nil)
	if has("first") || !has("second") || rt.blockLists.bytes > maxBlockLists {
		t.Errorf("%d bytes are kept, the old ones among them", rt.blockLists.bytes)
	}
}
