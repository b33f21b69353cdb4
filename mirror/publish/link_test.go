package publish

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openpowerquality/box-update-server/internal/pace"
	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/origin"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// slowOrigin is an origin behind a link that carries so many bytes per second, of all requests together. It
// knows one archive.
type slowOrigin struct {
	data  []byte
	parts bool // it takes blocks in parts
	wire  chan struct{}

	mu      sync.Mutex
	rate    int
	carried int            // bytes of bodies
	down    time.Duration  // each so often, of a minute, what is under way is cut
	have    map[int][]byte // of each block
	busiest int            // how many blocks were on their way at a time
	running int
}

var archiveName = func() update.Name {
	name, err := update.ParseName("opq-box-update-1.tar.gz")
	if err != nil {
		panic(err)
	}
	return name
}()

const grain = 4 << 10

// carry brings p over the link, a grain at a time, as fast as it goes, and fails where it is cut.
func (o *slowOrigin) carry(ctx context.Context, p []byte) error {
	for len(p) > 0 {
		n := min(grain, len(p))
		select {
		case o.wire <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		o.mu.Lock()
		took, down := time.Duration(n)*time.Second/time.Duration(o.rate), o.down
		o.carried += n
		o.mu.Unlock()
		err := pace.Sleep(ctx, took)
		<-o.wire
		if err != nil {
			return err
		}
		if down > 0 && time.Now().Unix()%60 == 0 {
			return errCut
		}
		p = p[n:]
	}
	return nil
}

func (o *slowOrigin) RoundTrip(r *http.Request) (*http.Response, error) {
	path := strings.Split(r.URL.Path, "/")
	if r.Method == http.MethodGet {
		return o.archive()
	}
	if strings.HasSuffix(r.URL.Path, blocksSuffix) {
		return answer(http.StatusNoContent, http.NoBody), nil
	}
	i, at := number(path[4]), 0
	if len(path) == 6 {
		at = number(path[5])
	}
	o.enter(1)
	defer o.enter(-1)
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = o.carry(r.Context(), body)
	}
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if had := o.have[i]; len(had) < at {
		raw, _ := json.Marshal(origin.FailureOf(origin.ErrGap))
		return answer(http.StatusConflict, strings.NewReader(string(raw))), nil
	}
	o.have[i] = append(o.have[i][:at], body...)
	return answer(http.StatusNoContent, http.NoBody), nil
}

func (o *slowOrigin) enter(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.running += n
	o.busiest = max(o.busiest, o.running)
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}

// standing says what has arrived.
func (o *slowOrigin) standing() origin.Archive {
	o.mu.Lock()
	defer o.mu.Unlock()
	a := origin.Archive{Name: archiveName, Digest: update.Sum(o.data), Length: int64(len(o.data)), Blocks: true}
	if o.parts {
		a.Begun = []origin.Begun{}
	}
	for i := range update.BlockCount(a.Length) {
		have := int64(len(o.have[i]))
		if have == update.BlockLength(a.Length, i) {
			continue
		}
		a.Missing = append(a.Missing, origin.Range{i, i + 1})
		if o.parts && have > 0 {
			a.Begun = append(a.Begun, origin.Begun{Block: i, Have: have})
		}
	}
	return a
}

func (o *slowOrigin) archive() (*http.Response, error) {
	raw, err := json.Marshal(o.standing())
	if err != nil {
		return nil, err
	}
	return answer(http.StatusOK, strings.NewReader(string(raw))), nil
}

// upload sends what the origin lacks, as a process does that begins anew.
func (o *slowOrigin) upload(ctx context.Context, t *testing.T, path string) error {
	t.Helper()
	r := known(t, Config{}, o.RoundTrip)
	r.c.Patience = defaultPatience
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	u := &upload{remote: r, patience: newPatience(r.c.Patience)}
	rel, blocks := releaseOf(t, o.data)
	u.files = Files{rel.Digest(): {Path: path, Blocks: blocks}}
	return u.send(ctx, origin.Outcome{Archives: []origin.Archive{o.standing()}}, []trust.Release{rel})
}

func newSlowOrigin(rate, length int) *slowOrigin {
	seed := sha256.Sum256([]byte("slow"))
	data := make([]byte, length)
	rand.NewChaCha8(seed).Read(data)
	return &slowOrigin{data: data, parts: true, rate: rate, have: map[int][]byte{}, wire: make(chan struct{}, 1)}
}

func (o *slowOrigin) file(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "archive")
	if err := os.WriteFile(path, o.data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (o *slowOrigin) check(t *testing.T, most float64) {
	t.Helper()
	if a := o.standing(); len(a.Missing) > 0 {
		t.Fatalf("expected all of it, %v are missing", a.Missing)
	}
	var got []byte
	for i := range len(o.have) {
		got = append(got, o.have[i]...)
	}
	if string(got) != string(o.data) {
		t.Fatal("something else arrived")
	}
	if ratio := float64(o.carried) / float64(len(o.data)); ratio > most {
		t.Errorf("%d bytes were sent for %d: %.2f times as many, expected at most %.2f", o.carried, len(o.data), ratio, most)
	}
}

// A publish goes through a link of any speed, and nothing is sent twice.
func TestSlowLink(t *testing.T) {
	for _, c := range []struct {
		name     string
		rate     int // bytes per second
		parallel int
	}{
		{"9.6 kbit/s", 1200, 1},
		{"96 kbit/s", 12_000, 1},
		{"256 kbit/s", 32_000, 1},
		{"512 kbit/s", 64_000, 1},
		{"100 Mbit/s", 12_500_000, parallel},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newSlowOrigin(c.rate, 5*update.BlockSize+12345)
				began := time.Now()
				if err := o.upload(t.Context(), t, o.file(t)); err != nil {
					t.Fatal(err)
				}
				o.check(t, 1.1)
				if o.busiest != c.parallel {
					t.Errorf("%d blocks were on their way at a time, expected %d", o.busiest, c.parallel)
				}
				if took, ideal := time.Since(began), float64(len(o.data))/float64(c.rate); took.Seconds() > 1.1*ideal {
					t.Errorf("it took %v, and the link could have done it in %.1f s", took, ideal)
				}
			})
		})
	}
}

// An origin of an older version gets whole blocks, and they arrive on a slow link too.
func TestSlowLinkToAnOlderOrigin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newSlowOrigin(32_000, update.BlockSize+12345)
		o.parts = false
		if err := o.upload(t.Context(), t, o.file(t)); err != nil {
			t.Fatal(err)
		}
		o.check(t, 1)
	})
}

// A link that is cut once a minute loses a piece with each cut.
func TestSlowLinkWithCuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newSlowOrigin(12_000, 2*update.BlockSize)
		o.down = time.Minute
		if err := o.upload(t.Context(), t, o.file(t)); err != nil {
			t.Fatal(err)
		}
		o.check(t, 1.3)
	})
}

// A fast link turns into a slow one while whole blocks are on their way.
func TestLinkThatSlowsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newSlowOrigin(2_000_000, 10*update.BlockSize)
		go func() {
			time.Sleep(10 * time.Second)
			o.mu.Lock()
			defer o.mu.Unlock()
			o.rate = 12_000
		}()
		if err := o.upload(t.Context(), t, o.file(t)); err != nil {
			t.Fatal(err)
		}
		o.check(t, 1.2)
	})
}

// A process that was stopped leaves its parts at the origin, and the next one goes on from there.
func TestSlowLinkGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newSlowOrigin(12_000, 2*update.BlockSize)
		path := o.file(t)
		for stops := 0; ; stops++ {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
			err := o.upload(ctx, t, path)
			cancel()
			if err == nil {
				if stops < 5 {
					t.Fatalf("stopped only %d times", stops)
				}
				break
			}
			if stops == 20 {
				t.Fatalf("it never arrives: %v", err)
			}
		}
		o.check(t, 1.3)
	})
}

// The origin was restarted and forgot the parts of a block: they are sent once more.
func TestForgottenParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newSlowOrigin(12_000, update.BlockSize)
		go func() {
			time.Sleep(100 * time.Second)
			o.mu.Lock()
			defer o.mu.Unlock()
			o.have = map[int][]byte{}
		}()
		if err := o.upload(t.Context(), t, o.file(t)); err != nil {
			t.Fatal(err)
		}
		o.check(t, 1.4)
	})
}

// releaseOf returns an archive with that content as a signed list names it.
func releaseOf(t *testing.T, data []byte) (trust.Release, update.Blocks) {
	t.Helper()
	k := testworld.NewKeyring("")
	p := testworld.SignList(t, k.Init(t, time.Now(), 1), &trust.Ledger{}, time.Now(), k.Releases,
		func(e *trust.TargetsEdit) error { return e.Add(testworld.Addition(archiveName.String(), data)) })
	return p.Releases()[0], testworld.Blocks(data)
}

// Over a slow link nothing is read back but what the server says of the archive; where it doesn't, blocks are.
func TestCheckOverASlowLink(t *testing.T) {
	data := []byte("archive")
	rel, blocks := releaseOf(t, data)
	sum := rel.Digest()
	good := "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
	for _, c := range []struct {
		name, digest string
		length       int64
		bodies       int // that were read
		want         error
	}{
		{"said", good, int64(len(data)), 0, nil},
		{"another digest", strings.Replace(good, ":", ":A", 1), int64(len(data)), 0, trust.ErrMismatch},
		{"another length", good, 1, 0, trust.ErrMismatch},
		{"nothing said", "", int64(len(data)), 2, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			bodies := 0
			r := known(t, Config{}, func(q *http.Request) (*http.Response, error) {
				if strings.HasSuffix(q.URL.Path, blocksSuffix) {
					return answer(http.StatusOK, bytes.NewReader(blocks.Bytes())), nil
				}
				if q.Method == http.MethodGet {
					bodies++
					return answer(http.StatusPartialContent, bytes.NewReader(data)), nil
				}
				a := answer(http.StatusOK, http.NoBody)
				a.ContentLength = c.length
				if c.digest != "" {
					a.Header.Set("Repr-Digest", c.digest)
				}
				return a, nil
			})
			r.link.rate = 12_000
			if err := r.Check(t.Context(), rel, Ends); !errors.Is(err, c.want) || bodies != c.bodies {
				t.Fatalf("expected %v and %d bodies, got %v and %d", c.want, c.bodies, err, bodies)
			}
		})
	}
}
