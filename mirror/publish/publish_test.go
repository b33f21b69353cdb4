package publish_test

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/mirror/publish"
	"github.com/openpowerquality/box-update-server/origin"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

// blocks3 is the length of an archive of three blocks.
const blocks3 = 2*update.BlockSize + 1000

func TestPublish(t *testing.T) {
	w := newWorld(t, 1)
	got := map[string]publish.Progress{}
	r := w.remote(func(c *publish.Config) { c.Progress = func(p publish.Progress) { got[p.Name.String()] = p } })
	p := w.list(r, w.both(), w.file(1, blocks3), w.file(2, 17), w.file(3, update.BlockSize), w.file(4, 0))
	must(t, r.Publish(t.Context(), trust.Change{Targets: p}, w.files))
	w.check(r, 4)
	if all, again := w.gate.total(); all != 5 || again != 0 {
		t.Fatalf("expected 5 blocks, each once, got %d, %d of them again", all, again)
	}
	if p := got["opq-box-update-1.tar.gz"]; p.Done != blocks3 || p.Total != blocks3 {
		t.Fatalf("expected all of the archive in the end, got %+v", p)
	}

	// What is published already takes nothing.
	must(t, r.Publish(t.Context(), trust.Change{Targets: p}, nil))
	// What the origin has need not be here.
	must(t, r.Publish(t.Context(), trust.Change{Targets: w.list(r, w.both())}, nil))
}

func TestPublishRoot(t *testing.T) {
	w := newWorld(t, 1)
	r := w.remote()
	w.refresh(r)
	e := w.base.EditRoot(time.Now())
	must(t, e.AddKey(trust.RoleTargets, testworld.NewSigner("new").Public()))
	p, err := e.Sign(t.Context(), w.root)
	must(t, err)
	must(t, r.Publish(t.Context(), trust.Change{Root: p}, nil))
	w.refresh(r)
	if got := w.base.Root().Version(); got != 2 {
		t.Fatalf("expected root 2, got %d", got)
	}
}

func TestNothingForTheOriginToDo(t *testing.T) {
	w := newWorld(t, 1)
	r := w.remote()
	wantErr(t, r.Publish(t.Context(), trust.Change{}, nil), publish.ErrOrigin)
	p := w.list(r, w.both())
	wantErr(t, r.Propose(t.Context(), p, nil), publish.ErrOrigin)
	wantErr(t, r.Drop(t.Context(), p), publish.ErrOrigin)
}

// Two of two must sign: the first leaves the list there, the second finds it and brings the archive.
func TestCosign(t *testing.T) {
	w := newWorld(t, 2)
	r := w.remote()
	p := w.list(r, []signing.Signer{w.release[0]}, w.file(1, blocks3))
	wantErr(t, r.Publish(t.Context(), trust.Change{Targets: p}, w.files), publish.ErrIncomplete)
	must(t, r.Propose(t.Context(), p, nil))
	waiting, reserved, err := r.Pending(t.Context(), w.base, w.trusted.Ledger(), time.Now())
	must(t, err)
	if len(waiting) != 1 || reserved != 2 || waiting[0].Complete() {
		t.Fatalf("expected list 2 to wait, got %v and %d", waiting, reserved)
	}
	both, err := waiting[0].Cosign(t.Context(), w.release[1])
	must(t, err)
	wantErr(t, r.Publish(t.Context(), trust.Change{Targets: both}, nil), publish.ErrNoFile)
	must(t, r.Publish(t.Context(), trust.Change{Targets: both}, w.files))
	w.check(r, 1)
}

// Two signers hold their own signatures of one list: with the second it is complete, and goes out.
func TestHoldCompletes(t *testing.T) {
	w := newWorld(t, 2)
	r := w.remote()
	p := w.list(r, []signing.Signer{w.release[0]}, w.file(1, 100))
	must(t, r.Propose(t.Context(), p, nil))
	waiting, _, err := r.Pending(t.Context(), w.base, w.trusted.Ledger(), time.Now())
	must(t, err)
	both, err := waiting[0].Cosign(t.Context(), w.release[1])
	must(t, err)
	if _, err := w.origin.Propose(t.Context(), trust.RoleTargets, both.Raw()); err != nil {
		t.Fatal(err)
	}
	must(t, r.Propose(t.Context(), p, w.files))
	w.check(r, 1)
}

func TestConflict(t *testing.T) {
	w := newWorld(t, 1)
	r := w.remote()
	mine, theirs := w.list(r, w.both(), w.file(1, 10)), w.list(r, w.both(), w.file(2, 10))
	must(t, r.Publish(t.Context(), trust.Change{Targets: theirs}, w.files))
	err := r.Publish(t.Context(), trust.Change{Targets: mine}, w.files)
	wantErr(t, err, trust.ErrConflict)
	var conflict *origin.ConflictError
	var failed *publish.Error
	if !errors.As(err, &conflict) || conflict.Current.Targets != 2 {
		t.Fatalf("expected the conflict with targets 2, got %+v", conflict)
	}
	if !errors.As(err, &failed) || failed.Status != http.StatusConflict || failed.Hint == "" || !strings.Contains(err.Error(), w.proxy.URL+prefix+"/publish/targets/2") {
		t.Fatalf("expected URL, status and hint, got %+v", err)
	}
}

// A publish is cut at each block in turn: before the origin has it, and after. Only what was cut
// before is sent again.
func TestCut(t *testing.T) {
	for _, c := range []struct {
		name  string
		wire  func(g *gate, hit func(*http.Request) bool)
		again int
	}{
		{"nothing arrived", func(g *gate, hit func(*http.Request) bool) {
			g.meddle(func(_ http.ResponseWriter, r *http.Request) bool {
				if hit(r) {
					io.CopyN(io.Discard, r.Body, 10)
					cut()
				}
				return false
			}, nil)
		}, 0},
		{"the answer was lost", func(g *gate, hit func(*http.Request) bool) {
			g.meddle(nil, func(_ http.ResponseWriter, r *http.Request) bool {
				if hit(r) {
					cut()
				}
				return false
			})
		}, 0},
		{"the proxy lost the origin", func(g *gate, hit func(*http.Request) bool) {
			g.meddle(nil, func(w http.ResponseWriter, r *http.Request) bool {
				if hit(r) {
					w.WriteHeader(http.StatusGatewayTimeout)
					return true
				}
				return false
			})
		}, 0},
	} {
		for n := 1; n <= 4; n++ {
			t.Run(c.name, func(t *testing.T) {
				w := newWorld(t, 1)
				r := w.remote()
				p := w.list(r, w.both(), w.file(1, blocks3), w.file(2, 100))
				c.wire(w.gate, nth(n, isBlock))
				must(t, r.Publish(t.Context(), trust.Change{Targets: p}, w.files))
				if all, again := w.gate.total(); all != 4 || again != c.again {
					t.Fatalf("expected 4 blocks and %d again, got %d and %d", c.again, all, again)
				}
				w.gate.meddle(nil, nil)
				w.check(w.remote(), 2)
			})
		}
	}
}

// The answers to a list, a block list and a commit get lost.
func TestCutAnswers(t *testing.T) {
	for _, c := range []struct {
		name string
		of   func(*http.Request) bool
	}{
		{"list", func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/publish/targets/") }},
		{"block list", func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, ".blocks") }},
		{"commit", func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/commit") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 1)
			r := w.remote()
			p := w.list(r, w.both(), w.file(1, 100))
			hit, hits := nth(1, c.of), 0
			w.gate.meddle(nil, func(_ http.ResponseWriter, r *http.Request) bool {
				if hit(r) {
					hits++
					cut()
				}
				return false
			})
			must(t, r.Publish(t.Context(), trust.Change{Targets: p}, w.files))
			w.gate.meddle(nil, nil)
			w.check(w.remote(), 1)
			if hits != 1 {
				t.Fatal("nothing was cut")
			}
		})
	}
}

// The server is restarted in the middle; what had arrived is not sent again.
func TestServerRestart(t *testing.T) {
	w := newWorld(t, 1)
	r := w.remote()
	p := w.list(r, w.both(), w.file(1, 8*update.BlockSize))
	hit := nth(5, isBlock)
	w.gate.meddle(func(rw http.ResponseWriter, r *http.Request) bool {
		if !hit(r) {
			return false
		}
		w.stop()
		w.start()
		rw.WriteHeader(http.StatusBadGateway)
		return true
	}, nil)
	must(t, r.Publish(t.Context(), trust.Change{Targets: p}, w.files))
	w.gate.meddle(nil, nil)
	w.check(w.remote(), 1)
	// Those in flight at the restart went through the gate and may have to go again, and so may the parts of
	// one, which an origin keeps in memory.
	if all, again := w.gate.total(); all < 8 || again > 4 {
		t.Fatalf("expected 8 blocks and at most 4 again, got %d, %d again", all, again)
	}
}

// The signer is stopped in the middle, and another process goes on with the same list.
func TestSignerRestart(t *testing.T) {
	w := newWorld(t, 1)
	r := w.remote()
	p := w.list(r, w.both(), w.file(1, 8*update.BlockSize))
	ctx, stop := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped")
	hit := nth(3, isBlock)
	w.gate.meddle(nil, func(_ http.ResponseWriter, r *http.Request) bool {
		if hit(r) {
			stop(stopped)
		}
		return false
	})
	wantErr(t, r.Publish(ctx, trust.Change{Targets: p}, w.files), stopped)
	w.gate.meddle(nil, nil)
	must(t, r.Close())
	must(t, w.remote().Publish(t.Context(), trust.Change{Targets: p}, w.files))
	w.check(w.remote(), 1)
	if all, again := w.gate.total(); all < 8 || again > 4 {
		t.Fatalf("expected 8 blocks and at most those in flight again, got %d, %d again", all, again)
	}
}

// The origin forgets the staged list while it is sent.
func TestForgotten(t *testing.T) {
	w := newWorld(t, 1)
	r := w.remote()
	p := w.list(r, w.both(), w.file(1, blocks3))
	hit := nth(2, isBlock)
	w.gate.meddle(func(rw http.ResponseWriter, r *http.Request) bool {
		if !hit(r) {
			return false
		}
		w.stop()
		must(t, os.RemoveAll(w.dir+"/staging/publish"))
		w.start()
		return false
	}, nil)
	must(t, r.Publish(t.Context(), trust.Change{Targets: p}, w.files))
	w.gate.meddle(nil, nil)
	w.check(w.remote(), 1)
}

func TestBusy(t *testing.T) {
	w := newWorld(t, 1)
	var mu sync.Mutex
	var pauses []time.Duration
	r := w.remote(func(c *publish.Config) {
		c.Waiting = func(_ error, d time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			pauses = append(pauses, d)
		}
	})
	p := w.list(r, w.both(), w.file(1, 100))
	hit := nth(1, isBlock)
	w.gate.meddle(func(rw http.ResponseWriter, r *http.Request) bool {
		if !hit(r) {
			return false
		}
		rw.Header().Set("Retry-After", "1")
		rw.WriteHeader(http.StatusServiceUnavailable)
		return true
	}, nil)
	must(t, r.Publish(t.Context(), trust.Change{Targets: p}, w.files))
	if len(pauses) != 1 || pauses[0] < time.Second {
		t.Fatalf("expected one pause of at least 1 s, got %v", pauses)
	}
}

// A body that is damaged on its way is sent again; one that is always damaged is not for ever.
func TestDamagedOnTheWay(t *testing.T) {
	w := newWorld(t, 1)
	r := w.remote()
	p := w.list(r, w.both(), w.file(1, 100))
	times, seen, busy := 1, 0, 0
	w.gate.meddle(func(rw http.ResponseWriter, r *http.Request) bool {
		if isBlock(r) && busy > 0 {
			busy--
			rw.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		if isBlock(r) && seen < times {
			seen++
			r.Body = io.NopCloser(io.MultiReader(strings.NewReader("X"), io.LimitReader(r.Body, 99)))
		}
		return false
	}, nil)
	times = 1000
	wantErr(t, r.Publish(t.Context(), trust.Change{Targets: p}, w.files), store.ErrCorrupt)
	if seen != 3 {
		t.Fatalf("expected 3 tries, got %d", seen)
	}
	busy, seen = 3, 0 // that it was busy before doesn't make it more patient
	wantErr(t, r.Publish(t.Context(), trust.Change{Targets: p}, w.files), store.ErrCorrupt)
	if seen != 3 {
		t.Fatalf("expected 3 tries after it was busy, got %d", seen)
	}
	times, seen = 2, 0
	must(t, r.Publish(t.Context(), trust.Change{Targets: p}, w.files))
}

func TestFileChanged(t *testing.T) {
	w := newWorld(t, 1)
	r := w.remote()
	a := w.file(1, blocks3)
	p := w.list(r, w.both(), a)
	f, err := os.OpenFile(w.files[a.Digest].Path, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt([]byte("X"), blocks3-1)
	must(t, errors.Join(err, f.Close()))
	wantErr(t, r.Publish(t.Context(), trust.Change{Targets: p}, w.files), publish.ErrChanged)
	must(t, os.Truncate(w.files[a.Digest].Path, blocks3-1))
	wantErr(t, r.Publish(t.Context(), trust.Change{Targets: p}, w.files), publish.ErrChanged)
	other := w.files[a.Digest]
	other.Blocks = append(update.Blocks{{1}}, other.Blocks[1:]...)
	wantErr(t, r.Publish(t.Context(), trust.Change{Targets: p}, publish.Files{a.Digest: other}), publish.ErrChanged)
	must(t, os.Remove(w.files[a.Digest].Path))
	wantErr(t, r.Publish(t.Context(), trust.Change{Targets: p}, w.files), os.ErrNotExist)
}

// answers makes the gate give an answer of its own to the requests of a kind.
func (g *gate) answers(of func(*http.Request) bool, status int, body string) {
	g.meddle(func(w http.ResponseWriter, r *http.Request) bool {
		if !of(r) {
			return false
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
		return true
	}, nil)
}

func TestRefusals(t *testing.T) {
	w := newWorld(t, 1)
	r := w.remote()
	p := w.list(r, w.both(), w.file(1, 100))
	of := func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/publish/targets/") }
	const id = `"id":"0000000000000000000000000000000000000000000000000000000000000001"`
	mine := `{"length":100,"name":"opq-box-update-1.tar.gz","sha256":"` + p.Releases()[0].Digest().String() + `","missing":[[0,1]]}`
	for _, c := range []struct {
		name   string
		status int
		body   string
		want   error
		text   string
	}{
		{"full disk", 507, `{"error":"disk full","code":"no_space","hint":"make room"}`, disk.ErrNoSpace, "disk full"},
		{"full disk of a proxy", 507, `<html>`, disk.ErrNoSpace, "507"},
		{"no online key", 503, `{"error":"no key","code":"no_key"}`, origin.ErrNoKey, "no key"},
		{"expired", 422, `{"error":"old","code":"expired"}`, trust.ErrExpired, "old"},
		{"no origin", 404, `Resource not found.`, nil, "404 Not Found"},
		{"colours", 400, `{"error":"\u001b[31mred","code":"malformed"}`, trust.ErrMalformed, "?[31mred"},
		{"moved", 301, ``, nil, "it redirects to"},
		{"cut JSON", 200, `{"status":"staged",`, nil, "unexpected answer"},
		{"other JSON", 200, `[]`, nil, "unexpected answer"},
		{"no status", 200, `{` + id + `}`, nil, `status ""`},
		{"no ID", 200, `{"status":"committed"}`, nil, "no ID"},
		{"other archive", 200, `{"status":"staged",` + id + `,"archives":[{"name":"opq-box-update-1.tar.gz","sha256":"0000000000000000000000000000000000000000000000000000000000000001","length":100}]}`, nil, "not in the list"},
		{"an archive twice", 200, `{"status":"staged",` + id + `,"archives":[` + mine + `,` + mine + `]}`, nil, "there twice"},
		{"blocks out of order", 200, `{"status":"staged",` + id + `,"archives":[` + strings.Replace(mine, "[[0,1]]", "[[0,1],[0,1]]", 1) + `]}`, nil, "blocks 0 to 1"},
		{"too many blocks", 200, `{"status":"staged",` + id + `,"archives":[` + strings.Replace(mine, "[[0,1]]", "[[0,2]]", 1) + `]}`, nil, "blocks 0 to 2"},
		{"another length", 200, `{"status":"staged",` + id + `,"archives":[` + strings.Replace(mine, "100", "101", 1) + `]}`, nil, "expected 100 bytes, got 101"},
		{"too much", 200, `{"status":"` + strings.Repeat("x", 16<<20) + `"}`, nil, "expected at most"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.gate.answers(of, c.status, c.body)
			err := r.Publish(t.Context(), trust.Change{Targets: p}, w.files)
			if c.want != nil {
				wantErr(t, err, c.want)
			}
			if err == nil || !strings.Contains(err.Error(), c.text) || strings.Contains(err.Error(), "\x1b") {
				t.Fatalf("expected %q, got %v", c.text, err)
			}
		})
	}
	w.gate.meddle(nil, nil)
	must(t, r.Publish(t.Context(), trust.Change{Targets: p}, w.files))
}

// An answer without an end is given up at its bound.
func TestEndless(t *testing.T) {
	w := newWorld(t, 1)
	r := w.remote()
	w.gate.meddle(func(rw http.ResponseWriter, r *http.Request) bool {
		for r.Context().Err() == nil {
			rw.Write(make([]byte, 1<<16))
		}
		return true
	}, nil)
	_, err := r.Fetch(t.Context(), "timestamp.json", 1000, update.Digest{})
	if err == nil || !strings.Contains(err.Error(), "at most 1000 bytes") {
		t.Fatalf("expected the bound, got %v", err)
	}
}

func TestFetch(t *testing.T) {
	w := newWorld(t, 1)
	r := w.remote()
	raw, err := r.Fetch(t.Context(), "timestamp.json", 16_384, update.Digest{})
	must(t, err)
	_, err = r.Fetch(t.Context(), "timestamp.json", 16_384, update.Sum(raw))
	wantErr(t, err, trust.ErrUnchanged)
	_, err = r.Fetch(t.Context(), "2.root.json", 1000, update.Digest{})
	wantErr(t, err, trust.ErrNotFound)
	w.gate.meddle(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/metadata/timestamp.json" {
			http.Redirect(rw, r, prefix+"/metadata/elsewhere", http.StatusFound)
			return true
		}
		if r.URL.Path == "/metadata/elsewhere" {
			rw.Write(raw)
			return true
		}
		return false
	}, nil)
	again, err := r.Fetch(t.Context(), "timestamp.json", 16_384, update.Digest{})
	must(t, err)
	if string(again) != string(raw) {
		t.Fatal("a redirect to the same server was not followed")
	}
	w.gate.meddle(func(rw http.ResponseWriter, r *http.Request) bool {
		http.Redirect(rw, r, "http://127.0.0.2:1/metadata/timestamp.json", http.StatusFound)
		return true
	}, nil)
	_, err = r.Fetch(t.Context(), "timestamp.json", 16_384, update.Digest{})
	if err == nil || !strings.Contains(err.Error(), "redirect to http://127.0.0.2:1: expected its own origin") {
		t.Fatalf("expected the other host to be refused, got %v", err)
	}
	var refused *publish.Error
	if !errors.As(err, &refused) || !strings.Contains(refused.Hint, "use the URL that it redirects to") {
		t.Errorf("expected a hint to the other URL, got %+v", refused)
	}
}

// A server can't have a number signed that nobody could come back from, nor pass something else for
// what waits.
func TestHostileState(t *testing.T) {
	w := newWorld(t, 2)
	r := w.remote()
	p := w.list(r, []signing.Signer{w.release[0]})
	must(t, r.Propose(t.Context(), p, nil))
	state := func(r *http.Request) bool { return r.URL.Path == "/publish/" }
	pending := func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/publish/pending/") }
	for _, c := range []struct {
		name   string
		of     func(*http.Request) bool
		status int
		body   string
		want   string
	}{
		{"far ahead", state, 200, `{"root":1,"targets":1,"snapshot":1,"timestamp":1,"reserved":2000}`, "the origin says that list 2000 waits"},
		{"no version", state, 200, `{"root":1,"targets":1,"snapshot":1,"timestamp":0}`, "version 0"},
		{"another role", state, 200, `{"root":1,"targets":1,"snapshot":1,"timestamp":1,"pending":[{"role":"snapshot","version":2}]}`, "pending"},
		{"another file", pending, 200, `{}`, "it has another digest"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.gate.answers(c.of, c.status, c.body)
			_, _, err := r.Pending(t.Context(), w.base, w.trusted.Ledger(), time.Now())
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("expected %q, got %v", c.want, err)
			}
		})
	}
	for _, of := range []func(*http.Request) bool{state, pending} {
		w.gate.answers(of, 404, "Resource not found.")
		if got, _, err := r.Pending(t.Context(), w.base, w.trusted.Ledger(), time.Now()); err != nil || len(got) != 0 {
			t.Fatalf("expected nothing to wait, got %v, %v", got, err)
		}
	}
}

// What is served is not what was signed.
func TestCheckRefuses(t *testing.T) {
	w := newWorld(t, 1)
	r := w.remote()
	must(t, r.Publish(t.Context(), trust.Change{Targets: w.list(r, w.both(), w.file(1, blocks3))}, w.files))
	w.refresh(r)
	rel := w.base.Releases()[0]
	for _, path := range []string{"/update/", "/sha256/" + rel.Digest().String(), ".blocks", "/targets/"} {
		depth := publish.Ends
		if path == "/targets/" {
			depth = publish.Whole
		}
		of := func(r *http.Request) bool {
			return strings.Contains(r.URL.Path, path) && (path == ".blocks" || !strings.HasSuffix(r.URL.Path, ".blocks"))
		}
		w.gate.answers(of, http.StatusPartialContent, "something else")
		wantErr(t, r.Check(t.Context(), rel, depth), trust.ErrMismatch)
		w.gate.answers(of, http.StatusNotFound, "")
		if err := r.Check(t.Context(), rel, depth); err == nil {
			t.Fatalf("%s: expected an error", path)
		}
	}
	w.gate.meddle(nil, nil)
	must(t, r.Check(t.Context(), rel, publish.Ends))
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []struct{ url, want string }{
		{"ftp://host/", "expected http"}, {"host", "expected http"}, {"http://", "expected http"}, {"http:host", "expected http"},
		{"http://me:secret@host/", "signatures"}, {"http://host/?q", "expected no query"}, {"http://host/#f", "no fragment"}, {"http://[::1", "repository"},
	} {
		_, err := publish.New(publish.Config{URL: c.url})
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: expected %q, got %v", c.url, c.want, err)
		}
	}
	for given, want := range map[string]string{
		"https://host": "https://host/", "https://host/a/b//": "https://host/a/b/", "https://host/a%2Fb/": "https://host/a%2Fb/", "https://host/a%2F": "https://host/a%2F/",
	} {
		r, err := publish.New(publish.Config{URL: given})
		must(t, err)
		if got := r.URL(); got != want {
			t.Errorf("%s: got %s, want %s", given, got, want)
		}
	}
}

// Whoever has the certificate's authority reaches a server over TLS; for everybody else it is the wrong
// one, now and later.
func TestTLS(t *testing.T) {
	w := newWorld(t, 1)
	server := httptest.NewUnstartedServer(w.gate)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	at := func(c *publish.Config) {
		c.URL = server.URL
		c.Waiting = func(err error, _ time.Duration) { t.Errorf("waited after %v", err) }
	}
	r := w.remote(at, func(c *publish.Config) {
		c.Roots = x509.NewCertPool()
		c.Roots.AddCert(server.Certificate())
	})
	must(t, r.Publish(t.Context(), trust.Change{Targets: w.list(r, w.both(), w.file(1, blocks3))}, w.files))
	w.check(r, 1)
	_, err := w.remote(at).Fetch(t.Context(), "timestamp.json", 16_384, update.Digest{})
	var unknown x509.UnknownAuthorityError
	if !errors.As(err, &unknown) {
		t.Fatalf("expected an unknown authority, got %v", err)
	}
}

// A server that never was there is told at once.
func TestNobodyThere(t *testing.T) {
	w := newWorld(t, 1)
	r := w.remote(func(c *publish.Config) {
		c.Waiting = func(err error, _ time.Duration) { t.Errorf("waited after %v", err) }
	})
	w.proxy.Close()
	if _, err := r.Fetch(t.Context(), "timestamp.json", 1000, update.Digest{}); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Fatalf("expected the connection to be refused, got %v", err)
	}
}
