package mirror_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/update"
)

// badLink is the way to an upstream: slow, late, cut, and down at times. It is a link of 300 ms, 1 Mbit/s,
// a cut every few seconds and minutes without any, 160 times as fast.
type badLink struct {
	to   string // host:port
	rate *rate.Limiter
	cuts atomic.Int64

	mu   sync.Mutex
	down time.Time // until then
}

const (
	linkDelay = 2 * time.Millisecond
	linkRate  = 20 << 20 // bytes per second
	linkCut   = 1 << 20  // bytes of a connection
	linkDown  = 400 * time.Millisecond
	linkPiece = 64 << 10
)

// newBadLink returns a URL that leads to an upstream over such a link.
func newBadLink(t *testing.T, upstream string) (*badLink, string) {
	t.Helper()
	l := &badLink{to: strings.TrimPrefix(upstream, "http://"), rate: rate.NewLimiter(linkRate, linkPiece)}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var passing sync.WaitGroup
	passing.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			passing.Go(func() { l.pass(c) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		passing.Wait()
	})
	return l, "http://" + listener.Addr().String()
}

// pass carries one connection until it is cut.
func (l *badLink) pass(in net.Conn) {
	defer in.Close()
	l.mu.Lock()
	down := time.Now().Before(l.down)
	l.mu.Unlock()
	out, err := net.Dial("tcp", l.to)
	if err != nil || down {
		return
	}
	defer out.Close()
	<-time.After(linkDelay)
	asking := make(chan struct{})
	go func() {
		defer close(asking)
		defer out.Close()
		io.Copy(out, in) // ends with either
	}()
	var sent int64
	for sent < linkCut {
		n, err := io.CopyN(in, out, linkPiece)
		for left := int(n); left > 0; left -= linkPiece {
			if waited := l.rate.ReserveN(time.Now(), min(left, linkPiece)).Delay(); waited > 0 {
				<-time.After(waited)
			}
		}
		if sent += n; err != nil {
			break
		}
	}
	if sent >= linkCut && l.cuts.Add(1)%4 == 0 {
		l.mu.Lock()
		l.down = time.Now().Add(linkDown)
		l.mu.Unlock()
	}
	in.Close()
	out.Close()
	<-asking
}

// TestBadLink: syncs over such a link complete, no block comes twice but the one in flight, and at every
// instant what is served is one whole repository.
func TestBadLink(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, one)
	p := newProxy(t, o.url)
	link, url := newBadLink(t, p.url)
	m := o.patient(testworld.TempDir(t), url)
	m.url = serve(t, m.s)
	looked := map[int]int{} // how often a repository of so many updates was whole
	for _, names := range [][]string{{two}, {big, "opq-box-update-8.tar.gz"}, {three}} {
		o.publish(names...)
		synced := make(chan error, 1)
		go func() {
			_, err := m.Sync(t.Context())
			synced <- err
		}()
		for done := false; !done; {
			select {
			case err := <-synced:
				must(t, err)
				done = true
			default:
			}
			looked[len(m.listed())]++
			m.whole()
		}
	}
	m.wantListed(one, two, three, "opq-box-update-8.tar.gz", big)
	wantSame(t, o.s.Repository(), o.url, m.url)
	last := map[string]int{}
	for _, asked := range p.taken() {
		path, span, _ := strings.Cut(asked, " ")
		if !strings.HasPrefix(path, "/sha256/") || strings.HasSuffix(path, ".blocks") {
			continue
		}
		first := 0
		fmt.Sscanf(span, "bytes=%d-", &first) // the whole begins at 0
		if block := first / update.BlockSize; block < last[path] {
			t.Errorf("%s: block %d was asked for again, after block %d", path, block, last[path])
		} else {
			last[path] = block
		}
	}
	if d := o.rel(big).Digest().String(); last["/sha256/"+d] < 1 || link.cuts.Load() < 6 {
		t.Errorf("expected many cuts and a resume after the first block, got %d cuts and %v", link.cuts.Load(), last)
	}
	if looked[2] < 10 || looked[4] == 0 {
		t.Errorf("expected the old repository seen often while archives came, got %v", looked)
	}
	t.Logf("%d cuts; repositories seen whole, by their updates: %v", link.cuts.Load(), looked)
}
