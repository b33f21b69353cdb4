package mirror_test

import (
	"bytes"
	"compress/gzip"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/mirror"
	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

// scene is a mirror that has one and two, of an upstream that has more.
type scene struct {
	t   *testing.T
	o   *origin
	p   *proxy
	old map[string][]byte // what the upstream served before it had two
}

// metadata returns a metadata file of the origin.
func (s scene) metadata(role trust.Role, version int64) []byte {
	s.t.Helper()
	return metadataOf(s.t, s.o.s, trust.FileName(role, version))
}

func metadataOf(t *testing.T, s *store.Store, name string) []byte {
	t.Helper()
	raw, err := s.Metadata(name)
	must(t, err)
	return raw
}

// replays answers paths with those bytes.
func (s scene) replays(files map[string][]byte) {
	s.p.answers(func(w http.ResponseWriter, r *http.Request) bool {
		raw, ok := files[r.URL.Path]
		if ok {
			w.Write(raw)
		}
		return ok
	})
}

// mixes serves the version before of one metadata file.
func (s scene) mixes(role trust.Role) {
	s.o.publish(three)
	now := s.o.s.Repository().Version(role)
	s.replays(map[string][]byte{"/metadata/" + trust.FileName(role, now): s.metadata(role, now-1)})
}

// sends publishes the big archive, which is answered so.
func (s scene) sends(answer func(w http.ResponseWriter, r *http.Request)) {
	s.o.publish(big)
	path := "/sha256/" + s.o.rel(big).Digest().String()
	s.p.answers(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != path {
			return false
		}
		answer(w, r)
		return true
	})
}

// cutsFirst is sends, where the first answer is right and cut in the second block.
func (s scene) cutsFirst(then func(w http.ResponseWriter, r *http.Request)) {
	var once sync.Once
	s.sends(func(w http.ResponseWriter, r *http.Request) {
		once.Do(func() {
			w.Header().Set("ETag", `"one"`)
			w.Header().Set("Content-Length", fmt.Sprint(len(bigContent())))
			w.Write(bigContent()[:update.BlockSize+update.BlockSize/2])
			panic(http.ErrAbortHandler)
		})
		then(w, r)
	})
}

// other is as long as the big archive and shares no block with it.
func other() []byte { return bytes.Repeat([]byte("x"), len(bigContent())) }

// resigned returns a metadata file with changes, pairs of old and new, signed by who holds the key.
func (s scene) resigned(raw []byte, by *testworld.Signer, changes ...string) []byte {
	s.t.Helper()
	_, signed, _ := strings.Cut(string(raw), `],"signed":`)
	signed = strings.TrimSuffix(signed, "}")
	for i := 0; i < len(changes); i += 2 {
		if !strings.Contains(signed, changes[i]) {
			s.t.Fatalf("nothing to change: no %q in %.300q", changes[i], signed)
		}
	}
	signed = strings.NewReplacer(changes...).Replace(signed)
	sig := hex.EncodeToString(ed25519.Sign(by.Private(), []byte(signed)))
	return fmt.Appendf(nil, `{"signatures":[{"keyid":"%s","sig":"%s"}],"signed":%s}`, by.Public().ID(), sig, signed)
}

// climbs serves a list that a thief of the release key and the online key signed: a name of it leads out of
// the directory.
func (s scene) climbs() {
	s.o.publish(three)
	r := s.o.s.Repository()
	keys := map[trust.Role]*testworld.Signer{trust.RoleTargets: s.o.keys.Releases[0], trust.RoleSnapshot: s.o.keys.Online, trust.RoleTimestamp: s.o.keys.Online}
	changes := []string{`"` + one + `"`, `"../` + one + `"`}
	files := map[string][]byte{}
	for _, role := range []trust.Role{trust.RoleTargets, trust.RoleSnapshot, trust.RoleTimestamp} {
		raw := r.Raw(role)
		forged := s.resigned(raw, keys[role], changes...)
		changes = []string{
			sum(raw).String(), sum(forged).String(),
			fmt.Sprintf(`"length":%d`, len(raw)), fmt.Sprintf(`"length":%d`, len(forged)),
		}
		files["/metadata/"+trust.FileName(role, r.Version(role))] = forged
	}
	s.replays(files)
}

// bomb is a small file that becomes a large one.
var bomb = sync.OnceValues(func() ([]byte, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write(make([]byte, 16<<20))
	return b.Bytes(), errors.Join(err, z.Close())
})

// partial answers with the bytes that were asked for, of another archive.
func partial(w http.ResponseWriter, r *http.Request, of []byte) {
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(of))
}

// hostile is one thing that an upstream may do.
type hostile struct {
	name string
	turn func(s scene)         // makes it do so
	want error                 // of the sync; nil: what it does costs it its place alone
	file string                // that the message names, as it begins
	says []string              // what was expected, and what came
	slow func(c *fetch.Config) // how the client differs; nil: it asks once
}

func (s scene) redirects(to string) {
	s.sends(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to+r.URL.Path, http.StatusFound) })
}

// hostiles are the rows. The archive has three blocks and the mirror none of them, but where one came before
// the cut.
func hostiles(t *testing.T) []hostile {
	length := len(bigContent())
	blocks := testworld.Blocks(bigContent())
	wrong := fmt.Sprintf("block 0: expected digest %v, got %v", blocks[0], testworld.Blocks(other())[0])
	afterCut := fmt.Sprintf("block 1: expected digest %v, got ", blocks[1])
	goesOn := func(c *fetch.Config) { c.Patience = 20 * time.Second }
	archive := "sha256/" + sum(bigContent()).String()
	return []hostile{
		{"wrong bytes", func(s scene) {
			s.sends(func(w http.ResponseWriter, r *http.Request) { partial(w, r, other()) })
		}, fetch.ErrRefused, archive, []string{wrong}, nil},
		{"truncated body with a right Content-Length", func(s scene) {
			s.sends(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Length", fmt.Sprint(length))
				w.Write(bigContent()[:update.BlockSize+100])
				panic(http.ErrAbortHandler)
			})
		}, fetch.ErrUnavailable, archive, []string{fmt.Sprintf("expected %d bytes, got %d", length, update.BlockSize+100)}, nil},
		{"endless body", func(s scene) {
			s.sends(func(w http.ResponseWriter, r *http.Request) {
				for _, err := w.Write(bigContent()); err == nil && r.Context().Err() == nil; {
					_, err = w.Write(other())
				}
			})
		}, nil, archive, []string{fmt.Sprintf("expected %d bytes, got more", length)}, nil},
		{"endless body of wrong bytes", func(s scene) {
			s.sends(func(w http.ResponseWriter, r *http.Request) {
				for err := error(nil); err == nil && r.Context().Err() == nil; {
					_, err = w.Write(other())
				}
			})
		}, fetch.ErrRefused, archive, []string{wrong}, nil},
		{"200 to a range request, with wrong bytes", func(s scene) {
			s.cutsFirst(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Range") == "" {
					t.Error("expected a range to be asked for")
				}
				w.Write(other())
			})
		}, fetch.ErrRefused, archive, []string{afterCut}, goesOn},
		{"other content after a resume", func(s scene) {
			s.cutsFirst(func(w http.ResponseWriter, r *http.Request) {
				r.Header.Del("If-Range")
				partial(w, r, other())
			})
		}, fetch.ErrRefused, archive, []string{afterCut}, goesOn},
		{"1 byte a minute", func(s scene) {
			s.sends(func(w http.ResponseWriter, r *http.Request) {
				w.Write(bigContent()[:1])
				w.(http.Flusher).Flush()
				<-r.Context().Done()
			})
		}, fetch.ErrStalled, archive, []string{"expected 10000 bytes per second over 500ms, got "},
			func(c *fetch.Config) { c.StallRate, c.StallWindow = 10_000, 500*time.Millisecond }},
		{"no answer", func(s scene) {
			s.sends(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		}, fetch.ErrUnavailable, archive, []string{"no answer in time"},
			func(c *fetch.Config) { c.Silence = 3 * time.Second }},
		{"redirect to another host", func(s scene) { s.redirects("http://elsewhere.invalid") }, fetch.ErrRefused, archive,
			[]string{"redirect to http://elsewhere.invalid:80: expected its own origin"}, nil},
		{"redirect to another scheme", func(s scene) { s.redirects(strings.Replace(s.p.url, "http:", "https:", 1)) }, fetch.ErrRefused, archive,
			[]string{"redirect to https://127.0.0.1:", ": expected its own origin"}, nil},
		{"no bytes", func(s scene) {
			s.o.publish(big)
			s.p.answers(func(w http.ResponseWriter, r *http.Request) bool {
				missing := strings.Contains(r.URL.Path, s.o.rel(big).Digest().String())
				if missing {
					http.NotFound(w, r)
				}
				return missing
			})
		}, fetch.ErrNotFound, archive, []string{"status 404"}, nil},
		{"gzip bomb in metadata", func(s scene) {
			raw, err := bomb()
			must(s.t, err)
			s.p.answers(func(w http.ResponseWriter, r *http.Request) bool {
				w.Header().Set("Content-Encoding", "gzip")
				w.Write(raw)
				return true
			})
		}, fetch.ErrRefused, "metadata/timestamp.json", []string{"expected at most 16384 bytes, got more"}, nil},
		{"endless metadata", func(s scene) {
			s.p.answers(onPath("/metadata/timestamp.json", bytes.Repeat([]byte("a"), 1<<20)))
		}, fetch.ErrRefused, "metadata/timestamp.json", []string{"expected at most 16384 bytes, got more"}, nil},
		{"metadata that are none", func(s scene) {
			s.p.answers(onPath("/metadata/timestamp.json", []byte("Welcome to this hotel's network.")))
		}, trust.ErrMalformed, "timestamp", []string{"expected an object", `got "W"`}, nil},
		{"old metadata", func(s scene) { s.replays(s.old) }, trust.ErrRollback, "timestamp 2", []string{"version 3 was"}, nil},
		{"frozen metadata", func(s scene) {
			s.replays(map[string][]byte{"/metadata/timestamp.json": metadataOf(s.t, s.o.s, "timestamp.json")})
			s.o.at = day.Add(8 * 24 * time.Hour)
		}, trust.ErrExpired, "timestamp 3", []string{"expired at 2026-03-08T12:00:00Z, and it is 2026-03-09"}, nil},
		{"mixed metadata: an older snapshot", func(s scene) { s.mixes(trust.RoleSnapshot) }, trust.ErrMismatch, "snapshot 4", []string{"expected ", ", got "}, nil},
		{"mixed metadata: an older list", func(s scene) { s.mixes(trust.RoleTargets) }, trust.ErrMismatch, "targets 4", []string{"expected ", ", got "}, nil},
		{"another's repository", func(s scene) {
			stranger := newOriginOf(s.t, "stranger's ", one, two)
			s.p.answers(func(w http.ResponseWriter, r *http.Request) bool {
				raw, err := stranger.s.Metadata(strings.TrimPrefix(r.URL.Path, "/metadata/"))
				if err != nil || strings.Contains(r.URL.Path, "root") {
					return false
				}
				w.Write(raw)
				return true
			})
		}, trust.ErrThreshold, "timestamp 2", []string{"root 1 wants 1 of the keys", ", got 0"}, nil},
		{"names with ../", scene.climbs, trust.ErrMalformed, "targets", []string{"expected a key of ", `got "/"`}, nil},
	}
}

// TestHostileUpstream: each is refused with one line that says who, which file, what was expected and what
// came; and what was served before is served still.
func TestHostileUpstream(t *testing.T) {
	t.Parallel()
	for _, c := range hostiles(t) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t, one)
			old := map[string][]byte{}
			for _, role := range trust.Roles() {
				n := trust.FileName(role, o.s.Repository().Version(role))
				old["/metadata/"+n] = metadataOf(t, o.s, n)
			}
			o.publish(two)
			p := newProxy(t, o.url)
			var log logged
			m := o.newMirror(setup{config: func(mc *mirror.Config) { mc.Client = c.client(t, p.url, &log) }})
			m.sync()
			c.turn(scene{t, o, p, old})
			message := ""
			if c.want == nil {
				m.sync()
				message = log.about(p.url + "/" + c.file)
			} else {
				message = m.syncFails(c.want).Error()
				m.wantListed(one, two)
				if f := m.Freshness(o.at); f.Error == "" || f.Upstreams[0].URL != p.url {
					t.Errorf("expected the freshness to tell, got %+v", f)
				}
			}
			t.Log(message)
			for _, part := range append(c.says, p.url, c.file) {
				if !strings.Contains(message, part) {
					t.Errorf("expected %q in the message", part)
				}
			}
			if strings.Contains(message, "\n") {
				t.Error("expected one line")
			}
			p.answers(nil)
			o.next(trust.Change{})
			m.sync()
		})
	}
}

func (h hostile) client(t *testing.T, upstream string, log io.Writer) *fetch.Client {
	t.Helper()
	c := fetch.Config{
		Upstreams: []string{upstream}, Patience: -1, Backoff: 1, MaxBackoff: 1, SetAside: 1,
		Logger: slog.New(slog.NewTextHandler(log, nil)),
	}
	if h.slow != nil {
		h.slow(&c)
	}
	client, err := fetch.New(c)
	must(t, err)
	t.Cleanup(client.Close)
	return client
}

// logged is a log.
type logged struct {
	mu    sync.Mutex
	lines []string
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

// about returns the line that names a file.
func (l *logged) about(file string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if strings.Contains(line, file) {
			return line
		}
	}
	return ""
}
