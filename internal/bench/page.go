package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/router"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// measurePage measures the status page of 1,000 signed updates.
func measurePage(ctx context.Context, l *lab) error {
	s, err := newShelf(1000)
	if err != nil {
		return err
	}
	stop, url, err := s.serve()
	if err != nil {
		return err
	}
	defer stop()
	body, err := pageOf(ctx, url)
	if err != nil {
		return err
	}
	const command = "go run ./internal/bench page"
	l.add(figure{family: "page", what: "status page of 1,000 updates, before gzip", unit: "kB", command: command,
		ours: sample{float64(len(body)) / 1000}, goal: goal{valueAtMost, 30}})
	l.add(figure{family: "page", what: "the same as sent to a browser", unit: "kB", command: command,
		ours: sample{float64(gzipped(body)) / 1000}, goal: goal{valueAtMost, 30}})
	if err := l.alone(ctx, figure{family: "page", what: "the page after a change, median of 100", unit: "ms", command: command,
		goal: goal{valueAtMost, 20}, note: "with the request over loopback"}, func(ctx context.Context) (float64, error) {
		return s.timed(ctx, url, s.change)
	}); err != nil {
		return err
	}
	return l.alone(ctx, figure{family: "page", what: "the page without a change, median of 100", unit: "ms", command: command},
		func(ctx context.Context) (float64, error) { return s.timed(ctx, url, func() {}) })
}

func gzipped(b []byte) int {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, _ = z.Write(b) // a bytes.Buffer takes everything
	_ = z.Close()
	return out.Len()
}

// A shelf is a router.Source with signed updates and without archives, whose catalog changes when it is told.
type shelf struct {
	catalogs [2]*update.Catalog
	changes  atomic.Int64
}

func newShelf(n int) (*shelf, error) {
	var list []update.Update
	for i := range n {
		at := time.Unix(1547861057+int64(i)*100_000, 0)
		list = append(list, update.Update{
			Name:   update.NewName(update.DefaultProduct, update.VersionAt(at), update.TarBzip2),
			Digest: update.Sum(fmt.Append(nil, i)), Length: mB, Time: at})
	}
	s := &shelf{}
	for i := range s.catalogs {
		var err error
		if s.catalogs[i], err = update.NewCatalog(list, true); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *shelf) change() { s.changes.Add(1) }

// Catalog returns the updates, another catalog after each change.
func (s *shelf) Catalog() *update.Catalog { return s.catalogs[s.changes.Load()%2] }

// Open opens nothing.
func (s *shelf) Open(update.Update) (*os.File, error) { return nil, os.ErrNotExist }

// Blocks returns nothing.
func (s *shelf) Blocks(update.Update) (update.Blocks, error) { return nil, os.ErrNotExist }

// Replaced is false.
func (s *shelf) Replaced(update.Name) bool { return false }

// Signatures returns one signature.
func (s *shelf) Signatures(u update.Update) []trust.KeySignature {
	return []trust.KeySignature{{Key: keys.ID(u.Digest.String()), Signature: signing.Signature{1}}}
}

// serve serves the shelf in this process.
func (s *shelf) serve() (stop func(), url string, err error) {
	server, err := router.NewServer(router.Config{Source: s, Signatures: s})
	if err != nil {
		return nil, "", err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	return func() {
		_ = server.Close() // nothing was written
		<-served
	}, "http://" + listener.Addr().String() + "/", nil
}

// timed returns the median time of the page in milliseconds, each time after something.
func (s *shelf) timed(ctx context.Context, url string, before func()) (float64, error) {
	var took sample
	for range 100 {
		before()
		begin := time.Now()
		if _, err := pageOf(ctx, url); err != nil {
			return 0, err
		}
		took = append(took, float64(time.Since(begin))/float64(time.Millisecond))
	}
	return took.median(), nil
}

var errPage = errors.New("no status page")

// pageOf fetches the status page as a browser does that takes no compression.
func pageOf(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "text/html")
	resp, err := client(time.Minute).Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() // only read from
	body, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != http.StatusOK || !bytes.HasPrefix(body, []byte("<!doctype html>"))) {
		err = fmt.Errorf("%w: status %s, %.80q", errPage, resp.Status, body)
	}
	return body, err
}

// measureMetrics compares our server with itself, without metrics, log and limits.
func measureMetrics(ctx context.Context, l *lab) error {
	data, err := l.archives("metrics", smallArchives, mB)
	if err != nil {
		return err
	}
	defer data.remove()
	for _, with := range []struct {
		what string
		args []string
	}{
		{"metrics", []string{quiet}},
		{"limits", []string{quiet, unmeasured, manyDownloads, muchBandwidth}},
		{"metrics, log and limits", []string{manyDownloads, muchBandwidth}},
	} {
		for _, of := range []struct{ what, path string }{{"/version", "/version"}, {"1 MB archives", data.path()}} {
			load := wrkLoad{path: of.path, connections: 64, time: l.load}
			f := figure{family: "metrics", what: of.what + ", with " + with.what, unit: "req/s", against: "without", command: load.command(), goal: goal{ratioAtLeast, 0.95}}
			if err := l.withAndWithout(ctx, f, data, with.args, []string{quiet, unmeasured}, load); err != nil {
				return err
			}
		}
	}
	return nil
}

// Limits that nothing reaches.
const (
	manyDownloads = "--max-downloads=1000000"
	muchBandwidth = "--max-bandwidth=1000000000000"
)

// unmeasured is how our server is told not to measure.
const unmeasured = "--metrics=false"

// withAndWithout measures a load on two of our servers that differ in their arguments.
func (l *lab) withAndWithout(ctx context.Context, f figure, data drop, on, off []string, load wrkLoad) error {
	with, err := l.serve(ctx, data.dir, data.names, on...)
	if err != nil {
		return err
	}
	defer with.stop()
	without, err := l.serve(ctx, data.dir, data.names, off...)
	if err != nil {
		return err
	}
	defer without.stop()
	var ours, theirs sample
	if err := l.run(ctx, &f, load.side(with, &ours), load.side(without, &theirs)); err != nil {
		return err
	}
	f.note = fmt.Sprintf("p99 %s/%s ms", number(ours.median()), number(theirs.median()))
	l.add(f)
	return nil
}
