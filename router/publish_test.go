package router

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/origin"
	"github.com/openpowerquality/box-update-server/router/front"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

// fakePublisher knows one staged list with one archive, and notes what reaches it.
type fakePublisher struct {
	id, digest update.Digest
	block      []byte

	mu      sync.Mutex
	fails   error // of Propose and Commit
	outcome origin.Outcome
	raw     []byte // of the last proposal
	blocks  int    // that were taken
	entered chan struct{}
	leave   chan struct{} // Commit waits for it where it is not nil
}

func newFakePublisher() *fakePublisher {
	return &fakePublisher{id: update.Sum([]byte("id")), digest: update.Sum([]byte("archive")), block: bytes.Repeat([]byte("block"), 1000)}
}

// with runs a function that looks at what the publisher knows, or changes it.
func (p *fakePublisher) with(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

func (p *fakePublisher) State() origin.State {
	return origin.State{Versions: status.Versions{Root: 3}, Staged: []int64{}, Pending: []origin.Pending{}}
}

func (p *fakePublisher) PendingRaw(id update.Digest) ([]byte, error) {
	if id != p.id {
		return nil, origin.ErrNotFound
	}
	return []byte("pending"), nil
}

func (p *fakePublisher) Propose(_ context.Context, _ trust.Role, raw []byte) (origin.Outcome, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.raw = bytes.Clone(raw)
	return p.outcome, p.fails
}

func (p *fakePublisher) Archive(_ context.Context, id, digest update.Digest) (origin.Archive, error) {
	if id != p.id || digest != p.digest {
		return origin.Archive{}, origin.ErrNotFound
	}
	return origin.Archive{Digest: digest, Length: int64(len(p.block)), Missing: []origin.Range{}}, nil
}

func (p *fakePublisher) PutBlocks(ctx context.Context, id, digest update.Digest, list []byte) error {
	return p.PutBlock(ctx, id, digest, 0, list)
}

func (p *fakePublisher) PutBlock(_ context.Context, id, digest update.Digest, i int, b []byte) error {
	if id != p.id || digest != p.digest || i != 0 {
		return fmt.Errorf("block %d: %w", i, origin.ErrNotFound)
	}
	if !bytes.Equal(b, p.block) {
		return store.ErrCorrupt
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.blocks++
	return nil
}

func (p *fakePublisher) PutPart(ctx context.Context, id, digest update.Digest, i int, at int64, b []byte) error {
	if at != 0 {
		return origin.ErrGap
	}
	if len(b) == 0 && i == 0 && id == p.id && digest == p.digest {
		return nil
	}
	return p.PutBlock(ctx, id, digest, i, b)
}

func (p *fakePublisher) Commit(ctx context.Context, id update.Digest) (status.Versions, error) {
	if id != p.id {
		return status.Versions{}, origin.ErrNotFound
	}
	if p.leave != nil {
		p.entered <- struct{}{}
		select {
		case <-p.leave:
		case <-ctx.Done():
		}
		p.entered <- struct{}{}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return status.Versions{Root: 3}, errors.Join(p.fails, ctx.Err())
}

// put sends a request with a body of which the header tells the length.
func put(t testing.TB, addr, path string, body []byte, fields ...string) got {
	t.Helper()
	c := testworld.Dial(t, addr)
	return putOn(t, c, path, body, fields...)
}

func putOn(t testing.TB, c net.Conn, path string, body []byte, fields ...string) got {
	t.Helper()
	header := fmt.Sprintf("PUT %s HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n%s\r\n", path, len(body), strings.Join(append(fields, ""), "\r\n"))
	if _, err := c.Write(append([]byte(header), body...)); err != nil {
		t.Fatal(err)
	}
	return answerOn(t, bufio.NewReader(c), "PUT")
}

func answerOn(t testing.TB, r *bufio.Reader, method string) got {
	t.Helper()
	resp, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return got{resp.StatusCode, resp.Header, string(body)}
}

// fails compares a refusal; its code is for programs.
func (g got) fails(t testing.TB, status int, code string) {
	t.Helper()
	g.hold(t, status, map[string]string{"Content-Type": "application/json", "Cache-Control": "no-store"})
	var f origin.Failure
	if err := json.Unmarshal([]byte(g.body), &f); err != nil || f.Code != code || f.Message == "" {
		t.Errorf("%d %s, want %d with code %q", g.status, g.body, status, code)
	}
}

func startPublisher(t *testing.T, p *fakePublisher) string {
	t.Helper()
	return start(t, Config{Source: newFake(t), Publisher: p})
}

func TestPublishRoutes(t *testing.T) {
	p := newFakePublisher()
	addr := startPublisher(t, p)
	private := map[string]string{"Content-Type": "application/json", "Cache-Control": "no-store"}
	get(t, addr, "/publish/").hold(t, 200, private)
	ask(t, addr, "HEAD /publish/ HTTP/1.1").hold(t, 200, private)
	if g := get(t, addr, "/publish/"); !strings.Contains(g.body, `"root":3`) || !strings.Contains(g.body, `"pending":[]`) {
		t.Errorf("state: %s", g.body)
	}
	if g := get(t, addr, "/publish/pending/"+p.id.String()); g.status != 200 || g.body != "pending" {
		t.Errorf("pending: %d %s", g.status, g.body)
	}
	get(t, addr, "/publish/pending/"+p.digest.String()).fails(t, 404, "not_found")
	archive := fmt.Sprintf("/publish/%v/%v", p.id, p.digest)
	get(t, addr, archive).hold(t, 200, private)
	put(t, addr, archive+".blocks", p.block).hold(t, 204, map[string]string{"Cache-Control": "no-store"})
	put(t, addr, archive+"/0", p.block).hold(t, 204, nil)
	put(t, addr, archive+"/0", p.block[1:]).fails(t, 422, "corrupt")
	put(t, addr, archive+"/0/0", p.block).hold(t, 204, nil)
	put(t, addr, archive+"/0/1", p.block).fails(t, 409, "gap")
	put(t, addr, archive+"/1", p.block).fails(t, 404, "not_found")
	p.with(func() {
		if p.blocks != 3 {
			t.Errorf("%d blocks were taken, want 3", p.blocks)
		}
	})
	commit := fmt.Sprintf("/publish/%v/commit", p.id)
	put(t, addr, commit, nil).hold(t, 200, private)
	ask(t, addr, "POST "+commit+" HTTP/1.1").hold(t, 200, private)
	put(t, addr, commit, []byte("x")).fails(t, 413, "too_large")
}

func TestPropose(t *testing.T) {
	p := newFakePublisher()
	addr := startPublisher(t, p)
	list := []byte(`{"signatures":[],"signed":{"_type":"targets","version":18}}`)
	for status, want := range map[origin.Status]int{origin.StatusPending: 202, origin.StatusStaged: 200, origin.StatusCommitted: 200} {
		p.with(func() { p.outcome = origin.Outcome{Status: status, ID: p.id} })
		g := put(t, addr, "/publish/targets/18", list)
		g.hold(t, want, map[string]string{"Content-Type": "application/json", "Cache-Control": "no-store"})
		p.with(func() {
			if !strings.HasPrefix(g.body, `{"status":"`+string(status)+`","id":"`+p.id.String()) || !bytes.Equal(p.raw, list) {
				t.Errorf("%s of %s", g.body, p.raw)
			}
			p.raw = nil
		})
	}
	put(t, addr, "/publish/targets/17", list).fails(t, 400, "malformed")
	put(t, addr, "/publish/root/17", list).fails(t, 400, "malformed")
	if p.with(func() { list = p.raw }); list != nil {
		t.Error("a list of another version than the path's was proposed")
	}
}

func TestPublishErrors(t *testing.T) {
	p := newFakePublisher()
	addr := startPublisher(t, p)
	for _, test := range []struct {
		err    error
		status int
		code   string
	}{
		{trust.ErrMalformed, 400, "malformed"},
		{trust.ErrTooMany, 400, "too_many"},
		{trust.ErrThreshold, 403, "threshold"},
		{trust.ErrKey, 403, "key"},
		{origin.ErrNotFound, 404, "not_found"},
		{trust.ErrRollback, 409, "rollback"},
		{trust.ErrStranded, 409, "stranded"},
		{trust.ErrSecondDigest, 409, "second_digest"},
		{&origin.ConflictError{Staged: 19, Err: trust.ErrConflict}, 409, "conflict"},
		{store.ErrIncomplete, 409, "incomplete"},
		{origin.ErrBlocks, 409, "no_blocks"},
		{store.ErrCorrupt, 422, "corrupt"},
		{trust.ErrExpired, 422, "expired"},
		{trust.ErrClock, 422, "signer_clock"},
		{origin.ErrNoKey, 503, "no_key"},
		{origin.ErrAhead, 503, "origin_clock"},
		{origin.ErrJump, 503, "origin_ahead"},
		{disk.ErrNoSpace, 507, "no_space"},
		{errors.New("secret of the disk"), 500, "internal"},
	} {
		p.with(func() { p.fails = fmt.Errorf("propose: %w", test.err) })
		g := put(t, addr, "/publish/root/1", []byte("{}"))
		if strings.Contains(g.body, "secret") {
			t.Errorf("told: %s", g.body)
		}
		// "{}" has no version, so that only what is no JSON at all comes through.
		g.fails(t, 400, "malformed")
		g = put(t, addr, "/publish/root/1", []byte("x"))
		g.fails(t, test.status, test.code)
		if strings.Contains(g.body, "secret") {
			t.Errorf("told: %s", g.body)
		}
		put(t, addr, fmt.Sprintf("/publish/%v/commit", p.id), nil).fails(t, test.status, test.code)
	}
	conflict := &origin.ConflictError{Staged: 19, Current: status.Versions{Targets: 18}, Err: trust.ErrConflict}
	p.with(func() { p.fails = conflict })
	if g := put(t, addr, "/publish/root/1", []byte("x")); !strings.Contains(g.body, `"staged":19`) || !strings.Contains(g.body, `"targets":18`) {
		t.Errorf("conflict: %s", g.body)
	}
}

func TestPublishMethods(t *testing.T) {
	p := newFakePublisher()
	addr := startPublisher(t, p)
	staged := fmt.Sprintf("/publish/%v/", p.id)
	for path, allow := range map[string]string{
		"/publish/":                            "GET, HEAD",
		"/publish/pending/" + p.id.String():    "GET, HEAD",
		staged + p.digest.String():             "GET, HEAD",
		"/publish/root/1":                      "PUT",
		"/publish/targets/1":                   "PUT",
		staged + p.digest.String() + ".blocks": "PUT",
		staged + p.digest.String() + "/0":      "PUT",
		staged + p.digest.String() + "/0/9":    "PUT",
		staged + "commit":                      "POST, PUT",
	} {
		for _, method := range []string{"GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH"} {
			g := ask(t, addr, method+" "+path+" HTTP/1.1", "Content-Length: 0")
			if taken := " " + allow + ","; strings.Contains(taken, " "+method+",") {
				if g.status == 405 {
					t.Errorf("%s %s: refused", method, path)
				}
				continue
			}
			g.hold(t, 405, map[string]string{"Allow": allow})
		}
	}
}

// What is refused by its path or length is refused before its body comes, and 100 Continue is only sent
// to who is to go on.
func TestBodyIsAskedForWhenItIsWanted(t *testing.T) {
	t.Parallel()
	p := newFakePublisher()
	addr := startPublisher(t, p)
	archive := fmt.Sprintf("/publish/%v/%v", p.id, p.digest)
	for label, test := range map[string]struct {
		path, length string
		status       int
		code         string
	}{
		"unknown ID":            {fmt.Sprintf("/publish/%v/%v/0", p.digest, p.digest), "Content-Length: 4194304", 404, "not_found"},
		"unknown archive":       {fmt.Sprintf("/publish/%v/%v/0", p.id, p.id), "Content-Length: 4194304", 404, "not_found"},
		"unknown block":         {archive + "/1", "Content-Length: 4194304", 404, "not_found"},
		"unknown list":          {fmt.Sprintf("/publish/%v/%v.blocks", p.digest, p.digest), "Content-Length: 32", 404, "not_found"},
		"no path":               {"/publish/targets/0", "Content-Length: 32", 404, "not_found"},
		"no length":             {archive + "/0", "X: y", 411, "length"},
		"chunked":               {archive + "/0", "Transfer-Encoding: chunked", 411, "length"},
		"chunked root":          {"/publish/root/2", "Transfer-Encoding: chunked", 411, "length"},
		"large block":           {archive + "/0", "Content-Length: 4194305", 413, "too_large"},
		"large part":            {archive + "/0/1", "Content-Length: 4194304", 413, "too_large"},
		"large block list":      {archive + ".blocks", "Content-Length: 8388609", 413, "too_large"},
		"large root":            {"/publish/root/2", "Content-Length: 512001", 413, "too_large"},
		"large list":            {"/publish/targets/2", "Content-Length: 5000001", 413, "too_large"},
		"huge list":             {"/publish/targets/2", "Content-Length: 1073741824", 413, "too_large"},
		"commit with something": {fmt.Sprintf("/publish/%v/commit", p.id), "Content-Length: 1", 413, "too_large"},
	} {
		for _, expect := range []string{"Expect: 100-continue", "X-Expect: nothing"} {
			t.Run(label+", "+expect, func(t *testing.T) {
				begun := time.Now()
				ask(t, addr, "PUT "+test.path+" HTTP/1.1", test.length, expect).fails(t, test.status, test.code)
				if took := time.Since(begun); took > front.RequestTimeout/2 {
					t.Errorf("answered after %v, as if it had waited for the body", took)
				}
			})
		}
	}
	c := testworld.Dial(t, addr)
	r := bufio.NewReader(c)
	if _, err := fmt.Fprintf(c, "PUT %s/0 HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", archive, len(p.block)); err != nil {
		t.Fatal(err)
	}
	if line, err := r.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("%q, %v", line, err)
	}
	if _, err := r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(p.block); err != nil {
		t.Fatal(err)
	}
	answerOn(t, r, "PUT").hold(t, 204, nil)
}

// A connection goes on after small bodies that nobody read, and after those that were.
func TestConnectionGoesOn(t *testing.T) {
	p := newFakePublisher()
	addr := startPublisher(t, p)
	archive := fmt.Sprintf("/publish/%v/%v", p.id, p.digest)
	c := testworld.Dial(t, addr)
	for range 3 {
		putOn(t, c, "/publish/x", make([]byte, 10_000)).fails(t, 404, "not_found")
		putOn(t, c, archive+"/1", p.block).fails(t, 404, "not_found")
		putOn(t, c, archive+"/0", make([]byte, 1<<20)).fails(t, 422, "corrupt")
		putOn(t, c, archive+"/0", p.block).hold(t, 204, nil)
		askOn(t, c, "GET /livez HTTP/1.1").hold(t, 200, nil)
	}
	// A large one is not waited for: whoever sends it is told, and the connection ends.
	if _, err := fmt.Fprintf(c, "PUT %s/1 HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n", archive, 3<<20); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	answerOn(t, r, "PUT").fails(t, 404, "not_found")
	if n, err := r.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the connection is open: %d, %v", n, err)
	}
}

func TestSlowBodyIsCut(t *testing.T) {
	p := newFakePublisher()
	addr := start(t, Config{Source: newFake(t), Publisher: p, BodyWindow: 200 * time.Millisecond, BodyRate: 1000})
	for label, path := range map[string]string{"block": fmt.Sprintf("/publish/%v/%v/0", p.id, p.digest), "list": "/publish/targets/1"} {
		t.Run(label, func(t *testing.T) {
			c := testworld.Dial(t, addr)
			if _, err := fmt.Fprintf(c, "PUT %s HTTP/1.1\r\nHost: test\r\nContent-Length: 5000\r\n\r\n%s", path, strings.Repeat("x", 100)); err != nil {
				t.Fatal(err)
			}
			r := bufio.NewReader(c)
			answerOn(t, r, "PUT").fails(t, 408, "slow")
			if n, err := r.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("the connection is open: %d, %v", n, err)
			}
		})
	}
	p.with(func() {
		if p.blocks != 0 || p.raw != nil {
			t.Error("something was taken")
		}
	})
}

// No total time ends a body that keeps coming, and none ends a commit.
func TestLivingBodyIsNotCut(t *testing.T) {
	p := newFakePublisher()
	s, err := NewServer(Config{Source: newFake(t), Publisher: p, BodyWindow: 400 * time.Millisecond, BodyRate: 100})
	if err != nil {
		t.Fatal(err)
	}
	s.front.Plain.ReadTimeout = 200 * time.Millisecond
	addr := serveOn(t, s)
	c := testworld.Dial(t, addr)
	if _, err := fmt.Fprintf(c, "PUT /publish/%v/%v/0 HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n", p.id, p.digest, len(p.block)); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for rest := p.block; len(rest) > 0; <-tick.C {
		n := min(len(rest), 200)
		if _, err := c.Write(rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	answerOn(t, bufio.NewReader(c), "PUT").hold(t, 204, nil)

	p.entered, p.leave = make(chan struct{}, 2), make(chan struct{})
	timer := time.AfterFunc(600*time.Millisecond, func() { close(p.leave) })
	defer timer.Stop()
	ask(t, addr, fmt.Sprintf("POST /publish/%v/commit HTTP/1.1", p.id)).hold(t, 200, nil)
}

// A commit goes on when its caller leaves.
func TestCommitOutlivesItsCaller(t *testing.T) {
	p := newFakePublisher()
	p.entered, p.leave = make(chan struct{}, 2), make(chan struct{})
	addr := startPublisher(t, p)
	c := testworld.Dial(t, addr)
	if _, err := fmt.Fprintf(c, "POST /publish/%v/commit HTTP/1.1\r\nHost: test\r\n\r\n", p.id); err != nil {
		t.Fatal(err)
	}
	<-p.entered
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.entered:
		t.Error("the commit ended with its caller")
	case <-time.After(300 * time.Millisecond):
		close(p.leave)
		<-p.entered
	}
}

// Blocks and what anybody may send have memory of their own.
func TestBodiesShareMemory(t *testing.T) {
	t.Parallel()
	p := newFakePublisher()
	s, err := NewServer(Config{Source: newFake(t), Publisher: p})
	if err != nil {
		t.Fatal(err)
	}
	addr := serveOn(t, s)
	block := fmt.Sprintf("/publish/%v/%v/0", p.id, p.digest)
	others := &upload{list: s.bodies.uploads, whole: true}
	if err := others.list.grow(others, smallMemory); err != nil {
		t.Fatal(err)
	}
	put(t, addr, block, p.block).hold(t, 204, nil)
	busy := put(t, addr, "/publish/targets/1", []byte("x"))
	busy.fails(t, 503, "busy")
	busy.hold(t, 503, map[string]string{"Retry-After": retryAfter})
	others.list.remove(others)
	if err := s.bodies.staged.Acquire(t.Context(), bodyMemory); err != nil {
		t.Fatal(err)
	}
	put(t, addr, block, p.block).fails(t, 503, "busy")
	put(t, addr, "/publish/targets/1", []byte("x")).hold(t, 200, nil)
	s.bodies.staged.Release(bodyMemory)
	put(t, addr, block, p.block).hold(t, 204, nil)
	// Everything was given back.
	if !s.bodies.staged.TryAcquire(bodyMemory) || s.bodies.uploads.small.total != 0 {
		t.Error("some memory is still taken")
	}
}

// A small list is looked at while a large one is.
func TestSmallListsWaitForNoLargeOne(t *testing.T) {
	s, err := NewServer(Config{Source: newFake(t), Publisher: newFakePublisher()})
	if err != nil {
		t.Fatal(err)
	}
	addr := serveOn(t, s)
	if err := s.bodies.checkLarge.Acquire(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	put(t, addr, "/publish/targets/1", []byte("x")).hold(t, 200, nil)
	s.bodies.checkLarge.Release(1)
}

func TestReloadKeepsTheMemory(t *testing.T) {
	s, err := NewServer(Config{Source: newFake(t), Publisher: newFakePublisher()})
	if err != nil {
		t.Fatal(err)
	}
	before := s.router.Load().bodies
	if err := s.Reload(Config{Source: newFake(t), Publisher: newFakePublisher()}); err != nil {
		t.Fatal(err)
	}
	if s.router.Load().bodies != before {
		t.Error("bodies before and after a reload have memory of their own")
	}
}

// String returns what parsePublishPath parses.
func (p publishPath) String() string {
	switch p.kind {
	case publishState:
		return "/"
	case publishPending:
		return "/pending/" + p.id.String()
	case publishProposal:
		return fmt.Sprintf("/%s/%d", p.role, p.version)
	case publishCommit:
		return "/" + p.id.String() + "/commit"
	case publishBlocks:
		return "/" + p.id.String() + "/" + p.digest.String() + string(blocks)
	case publishBlock:
		return fmt.Sprintf("/%v/%v/%d", p.id, p.digest, p.block)
	case publishPart:
		return fmt.Sprintf("/%v/%v/%d/%d", p.id, p.digest, p.block, p.at)
	}
	return "/" + p.id.String() + "/" + p.digest.String()
}

func FuzzPublishPath(f *testing.F) {
	d := strings.Repeat("0123456789abcdef", 4)
	for _, s := range []string{"/", "", "//", "/root/1", "/targets/18", "/targets/0", "/targets/018", "/root/+1", "/root/-1", "/root/1/", "/snapshot/1",
		"/pending/" + d, "/pending/", "/" + d, "/" + d + "/", "/" + d + "/commit", "/" + d + "/" + d, "/" + d + "/" + d + ".blocks",
		"/" + d + "/" + d + "/0", "/" + d + "/" + d + "/00", "/" + d + "/" + d + "/262143", "/" + d + "/" + d + "/262145", "/" + d + "/" + d + "/-1",
		"/" + d + "/" + d + "/99999999999999999999", "/" + d + "/" + d + "/7/65536", "/" + d + "/" + d + "/7/00", "/" + d + "/" + d + "/7/4194305",
		"/" + d + "/" + d + "/7/", "/" + d + "/" + d + "/7/1/2", "/" + d + "/" + d + ".blocks/7/1", "/" + d + "/" + d + ".blocks/0", "/" + d + "/../" + d, "/targets/99999999999", "/\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parsePublishPath(s)
		if err != nil {
			if !errors.Is(err, errNotFound) {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		if p.String() != s {
			t.Errorf("%q is printed as %q", s, p)
		}
		if p.kind == publishProposal && (p.version < 1 || p.role != trust.RoleRoot && p.role != trust.RoleTargets) {
			t.Errorf("%q: role %q, version %d", s, p.role, p.version)
		}
		if p.block < 0 || p.block > update.BlockCount(update.MaxLength) {
			t.Errorf("%q: block %d", s, p.block)
		}
		if p.at < 0 || p.limit() < 0 || p.kind == publishPart && p.at+p.limit() != update.BlockSize {
			t.Errorf("%q: offset %d, at most %d bytes", s, p.at, p.limit())
		}
	})
}
