package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

// An answer that brings less than leastRate bytes per second over a window is cut.
const (
	leastRate    = 256
	stallWindow  = 30 * time.Second
	plainTries   = 5       // how often a download that was cut is gone on with
	plainReserve = 1 << 20 // bytes that are left free on the disk
)

// plainServer is a server that is asked by the URLs that every box knows.
type plainServer struct {
	base string // without a slash at its end
	http *http.Client
}

func newPlainServer(c config, base string) (*plainServer, error) {
	authorities, err := c.certificates()
	if err != nil {
		return nil, err
	}
	return &plainServer{base, &http.Client{Transport: &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 30 * time.Second}).DialContext,
		TLSClientConfig:        &tls.Config{RootCAs: authorities, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    20 * time.Second,
		ResponseHeaderTimeout:  30 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true,
	}}}, nil
}

func (s *plainServer) close() { s.http.CloseIdleConnections() }

// ask asks for a file from an offset on. The caller closes the body.
func (s *plainServer) ask(ctx context.Context, file string, from int64) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+"/"+file, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("User-Agent", "boxup/"+version)
	if from > 0 {
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
	}
	resp, err := s.http.Do(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", fetch.ErrUnavailable, err)
	}
	return resp, nil
}

// status returns the error for a status that is neither 200 nor, where ranged, 206.
func (s *plainServer) status(resp *http.Response, file string, ranged bool) error {
	kind := fetch.ErrUnavailable
	switch {
	case resp.StatusCode == http.StatusOK, ranged && resp.StatusCode == http.StatusPartialContent:
		return nil
	case resp.StatusCode == http.StatusNotFound:
		kind = fetch.ErrNotFound
	}
	after := ""
	if text := resp.Header.Get("Retry-After"); text != "" {
		after = fmt.Sprintf(", Retry-After %.40q", text)
	}
	return fmt.Errorf("%s/%s: %w: status %d%s", s.base, file, kind, resp.StatusCode, after)
}

// small brings a file of at most so many bytes.
func (s *plainServer) small(ctx context.Context, file string, most int64) ([]byte, error) {
	ctx, body := watch(ctx)
	defer body.stop()
	resp, err := s.ask(ctx, file, 0)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() // read to its end, or given up
	if err := s.status(resp, file, false); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(body.of(resp.Body), most+1))
	if err != nil {
		return nil, fmt.Errorf("%s/%s: %w: %w", s.base, file, fetch.ErrUnavailable, err)
	}
	if int64(len(b)) > most {
		return nil, fmt.Errorf("%s/%s: %w: expected at most %d bytes, got more", s.base, file, fetch.ErrRefused, most)
	}
	return b, nil
}

// newest returns the newest update that is for every box, by /updates.json or, where a server doesn't
// have that, by /version and /ls.
func (s *plainServer) newest(ctx context.Context, product update.Product) (update.Name, error) {
	b, err := s.small(ctx, "updates.json", maxUpdates)
	if errors.Is(err, fetch.ErrNotFound) {
		return s.newestListed(ctx, product)
	}
	if err != nil {
		return update.Name{}, err
	}
	name, err := parseUpdates(b, product)
	if err != nil {
		return update.Name{}, fmt.Errorf("%s/updates.json: %w: %w", s.base, fetch.ErrRefused, err)
	}
	return name, nil
}

func (s *plainServer) newestListed(ctx context.Context, product update.Product) (update.Name, error) {
	v, err := s.small(ctx, "version", maxVersion)
	if err != nil {
		return update.Name{}, err
	}
	list, err := s.small(ctx, "ls", maxList)
	if err != nil {
		return update.Name{}, err
	}
	name, err := parseList(v, list, product)
	if err != nil {
		return update.Name{}, fmt.Errorf("%s/ls: %w: %w", s.base, fetch.ErrRefused, err)
	}
	return name, nil
}

// signature returns the detached signature of an update, that by the key where there are several.
func (s *plainServer) signature(ctx context.Context, n update.Name, k keys.Public) (signing.Signature, error) {
	file := "update/" + n.String() + ".sig"
	b, err := s.small(ctx, file+"?key="+string(k.ID()), maxSig)
	if errors.Is(err, fetch.ErrNotFound) {
		b, err = s.small(ctx, file, maxSig)
	}
	if err != nil {
		return signing.Signature{}, err
	}
	sig, err := signing.ParseSignature(b)
	if err != nil {
		return signing.Signature{}, fmt.Errorf("%s/%s: %w: %w", s.base, file, fetch.ErrRefused, err)
	}
	return sig, nil
}

// download makes f hold the archive of that name, and goes on with what it holds already. Whether that
// is the archive that was signed is for the caller to find out.
func (s *plainServer) download(ctx context.Context, n update.Name, f *os.File) error {
	var err error
	for range plainTries {
		err = s.goOn(ctx, n, f)
		if !errors.Is(err, fetch.ErrUnavailable) || ctx.Err() != nil {
			return err
		}
	}
	return err
}

func (s *plainServer) goOn(ctx context.Context, n update.Name, f *os.File) error {
	have, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	ctx, body := watch(ctx)
	defer body.stop()
	file := "update/" + n.String()
	resp, err := s.ask(ctx, file, have)
	if err != nil {
		return err
	}
	defer resp.Body.Close() // read to its end, or given up
	if resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && have > 0 {
		return nil // there is no more; the signature tells whether this is all
	}
	if err := s.status(resp, file, have > 0); err != nil {
		return err
	}
	if resp.StatusCode == http.StatusOK {
		if err := errors.Join(f.Truncate(0), rewind(f)); err != nil {
			return err
		}
	}
	if err := checkLength(resp.ContentLength, filepath.Dir(f.Name())); err != nil {
		return fmt.Errorf("%s/%s: %w", s.base, file, err)
	}
	got, err := io.Copy(f, body.of(resp.Body))
	if err == nil && got < resp.ContentLength {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("%s/%s: %w: expected %d bytes, got %d: %w", s.base, file, fetch.ErrUnavailable, resp.ContentLength, got, err)
	}
	return nil
}

func rewind(f *os.File) error {
	_, err := f.Seek(0, io.SeekStart)
	return err
}

// checkLength refuses what has no length, is too long, or does not fit on the disk. No more than that
// comes: net/http cuts a body at its Content-Length.
func checkLength(length int64, dir string) error {
	if length < 0 || length > update.MaxLength {
		return fmt.Errorf("%w: expected a Content-Length up to %d, got %d", fetch.ErrRefused, int64(update.MaxLength), length)
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(dir, &disk); err != nil {
		return err
	}
	if free := int64(disk.Bavail)*int64(disk.Bsize) - plainReserve; length > free {
		return fmt.Errorf("%w: %d bytes are to come, and %d are free", store.ErrNoSpace, length, max(free, 0))
	}
	return nil
}

// watched is a body that ends its request where it is too slow.
type watched struct {
	cancel context.CancelCauseFunc
	timer  *time.Ticker
	bytes  atomic.Int64
	from   io.Reader
}

// watch returns a context that ends when less than leastRate bytes per second come, and the body that
// has to be read for that.
func watch(ctx context.Context) (context.Context, *watched) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watched{cancel: cancel, timer: time.NewTicker(stallWindow)}
	go w.judge(ctx)
	return ctx, w
}

func (w *watched) judge(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.timer.C:
			if got := w.bytes.Swap(0); got < int64(leastRate*stallWindow.Seconds()) {
				w.cancel(fmt.Errorf("%w: expected %d bytes per second over %v, got %d bytes", fetch.ErrStalled, leastRate, stallWindow, got))
			}
		}
	}
}

func (w *watched) stop() {
	w.timer.Stop()
	w.cancel(nil)
}

// of returns a body, watched.
func (w *watched) of(body io.Reader) io.Reader {
	w.from = body
	return w
}

// Read reads the body and counts.
func (w *watched) Read(p []byte) (int, error) {
	n, err := w.from.Read(p)
	w.bytes.Add(int64(n))
	return n, err
}
