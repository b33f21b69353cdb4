package box

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
	"strconv"
	"time"

	"golang.org/x/time/rate"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/update"
	"github.com/openpowerquality/box-update-server/update/install"
)

// An answer that brings less than leastRate bytes per second over a window is cut.
const (
	leastRate   = 256
	stallWindow = 30 * time.Second
	plainTries  = 5         // how often in a row something is asked for that brings nothing
	plainBurst  = 256 << 10 // bytes that are read at once, at most
)

// plainServer is a server that is asked by the URLs that every box knows.
type plainServer struct {
	base     string // without a slash at its end
	http     *http.Client
	limiter  *rate.Limiter // nil: no cap
	least    float64       // bytes per second
	patience time.Duration // for how long to go on without getting anything; 0: what fails is not asked for again
	spent    time.Duration // of it, in pauses and in waiting
	sleep    func(context.Context, time.Duration) error
	random   func() float64 // spreads pauses
	now      func() time.Time
	agent    string // the User-Agent field
}

func newPlainServer(b *plainBox, base string) (*plainServer, error) {
	authorities, err := b.certificates()
	if err != nil {
		return nil, err
	}
	s := &plainServer{
		base: base, least: leastRate, patience: b.Patience, sleep: b.Sleep, random: b.Random, now: b.Now, agent: b.userAgent(),
		http: &http.Client{Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: 30 * time.Second}).DialContext,
			TLSClientConfig:        &tls.Config{RootCAs: authorities, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    20 * time.Second,
			ResponseHeaderTimeout:  30 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
			DisableCompression:     true,
		}},
	}
	if b.Rate > 0 {
		s.limiter = rate.NewLimiter(rate.Limit(b.Rate), int(min(plainBurst, b.Rate)))
		s.least = min(s.least, float64(b.Rate)/2)
	}
	return s, nil
}

func (s *plainServer) close() { s.http.CloseIdleConnections() }

// retrying asks again, after a growing pause, what found the server unavailable. Where that brought
// something, the pauses begin anew.
func (s *plainServer) retrying(ctx context.Context, ask func() (progress bool, err error)) error {
	s.spent = 0
	for tries := 1; ; tries++ {
		progress, err := ask()
		if !errors.Is(err, fetch.ErrUnavailable) || ctx.Err() != nil {
			return err
		}
		if progress {
			tries, s.spent = 1, 0
		}
		pause := s.pause(err, tries)
		if s.spent += pause; tries == plainTries || pause > longestBackoff || s.spent > s.patience {
			return err
		}
		if sleepErr := s.sleep(ctx, pause); sleepErr != nil {
			return errors.Join(sleepErr, err)
		}
	}
}

// pause returns how long to wait after so many failures in a row, or for how long the server asks.
func (s *plainServer) pause(err error, tries int) time.Duration {
	step := time.Second << (tries - 1)
	pause := step/2 + time.Duration(s.random()*float64(step/2))
	var busy *busyError
	if errors.As(err, &busy) {
		pause = max(pause, busy.after)
	}
	return pause
}

// busyError is that of a server that asks to be left alone for so long.
type busyError struct {
	error
	after time.Duration
}

func (e *busyError) Unwrap() error { return e.error }

// parseRetryAfter parses a Retry-After field (RFC 9110, section 10.2.3): seconds, or a date. It returns 0
// for what can't be read and for what is over, and at most longestPause.
func parseRetryAfter(s string, now time.Time) time.Duration {
	if n, err := strconv.ParseUint(s, 10, 63); err == nil {
		return time.Duration(min(n, uint64(longestPause/time.Second))) * time.Second
	}
	at, err := http.ParseTime(s)
	if err != nil {
		return 0
	}
	return min(max(0, at.Sub(now)), longestPause)
}

// ask asks for a file, or for the bytes of it that a Range field says. The caller closes the body.
func (s *plainServer) ask(ctx context.Context, file, byteRange string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+"/"+file, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("User-Agent", s.agent)
	if byteRange != "" {
		r.Header.Set("Range", byteRange)
	}
	resp, err := s.http.Do(r)
	if err != nil {
		return nil, fmt.Errorf("%s/%s: %w: %w", s.base, file, fetch.ErrUnavailable, explain.Network(err))
	}
	return resp, nil
}

// status returns the error for a status that is neither 200 nor, where ranged, 206.
func (s *plainServer) status(resp *http.Response, file string, ranged bool) error {
	switch {
	case resp.StatusCode == http.StatusOK, ranged && resp.StatusCode == http.StatusPartialContent:
		return nil
	case resp.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%s/%s: %w: status %d", s.base, file, fetch.ErrNotFound, resp.StatusCode)
	}
	text := resp.Header.Get("Retry-After")
	err := fmt.Errorf("%s/%s: %w: status %d", s.base, file, fetch.ErrUnavailable, resp.StatusCode)
	if text == "" {
		return err
	}
	return &busyError{fmt.Errorf("%w, Retry-After %.40q", err, text), parseRetryAfter(text, s.now())}
}

// small brings a file of at most so many bytes.
func (s *plainServer) small(ctx context.Context, file string, most int64) (b []byte, err error) {
	err = s.retrying(ctx, func() (bool, error) {
		b, err = s.smallOnce(ctx, file, most)
		return false, err
	})
	return b, err
}

func (s *plainServer) smallOnce(ctx context.Context, file string, most int64) ([]byte, error) {
	ctx, body := s.watch(ctx)
	defer body.stop()
	resp, err := s.ask(ctx, file, "")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() // read to its end, or given up
	body.heard()
	if err := s.status(resp, file, false); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(body.of(resp.Body), most+1))
	if err != nil {
		return nil, fmt.Errorf("%s/%s: %w: %w", s.base, file, fetch.ErrUnavailable, explain.Network(err))
	}
	if int64(len(b)) > most {
		return nil, fmt.Errorf("%s/%s: %w: expected at most %d bytes, got more", s.base, file, fetch.ErrRefused, most)
	}
	return b, nil
}

// version returns the newest version that is for every box: the smallest answer that a server has.
func (s *plainServer) version(ctx context.Context) (update.Version, error) {
	b, err := s.small(ctx, "version", maxVersion)
	if err != nil {
		return update.Version{}, err
	}
	v, err := update.ParseVersion(string(b))
	if err != nil {
		return update.Version{}, fmt.Errorf("%s/version: %w: %w", s.base, fetch.ErrRefused, err)
	}
	return v, nil
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
	v, err := s.version(ctx)
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
func (s *plainServer) download(ctx context.Context, n update.Name, f *os.File, a allowance) error {
	return s.retrying(ctx, func() (bool, error) {
		d := plainDownload{plainServer: s, name: n, file: f, allowance: a}
		err := d.goOn(ctx)
		return float64(d.got) >= s.least*stallWindow.Seconds(), err
	})
}

// plainDownload asks once for the rest of an archive.
type plainDownload struct {
	*plainServer
	allowance
	name update.Name
	file *os.File

	have  int64 // bytes in the file
	left  int64 // bytes that may come today
	total int64 // bytes of the archive
	got   int64 // bytes that came
}

func (d *plainDownload) goOn(ctx context.Context) (err error) {
	if d.have, err = d.file.Seek(0, io.SeekEnd); err != nil {
		return err
	}
	if d.left = d.allowance.left(); d.left == 0 {
		return d.over(d.name, 1)
	}
	ctx, body := d.watch(ctx)
	defer body.stop()
	path := "update/" + d.name.String()
	resp, err := d.ask(ctx, path, d.byteRange())
	if err == nil && d.byteRange() != "" && (resp.StatusCode == http.StatusNotImplemented || resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && d.have == 0) {
		resp.Body.Close() // nothing of it is wanted
		resp, err = d.ask(ctx, path, "")
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close() // read to its end, or given up
	body.heard()
	if resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && d.have > 0 {
		return nil // there is no more; the signature tells whether this is all
	}
	if err := d.status(resp, path, true); err != nil {
		return err
	}
	if err := d.begin(resp); err != nil {
		return fmt.Errorf("%s/%s: %w", d.base, path, err)
	}
	if err := d.take(body.of(resp.Body), body); err != nil {
		return fmt.Errorf("%s/%s: %w", d.base, path, err)
	}
	return nil
}

// byteRange returns the Range field for what is missing and may come today, "" for all.
func (d *plainDownload) byteRange() string {
	switch {
	case d.most > 0:
		return fmt.Sprintf("bytes=%d-%d", d.have, d.have+d.left-1)
	case d.have > 0:
		return fmt.Sprintf("bytes=%d-", d.have)
	}
	return ""
}

// begin makes place for an answer: for all of it, or for what follows on what is there.
func (d *plainDownload) begin(resp *http.Response) error {
	from, length := int64(0), resp.ContentLength
	if resp.StatusCode == http.StatusPartialContent {
		var err error
		if from, length, err = parseContentRange(resp.Header.Get("Content-Range")); err != nil || from != d.have {
			return fmt.Errorf("%w: expected the bytes from %d on, got Content-Range %.60q", fetch.ErrRefused, d.have, resp.Header.Get("Content-Range"))
		}
	}
	if err := checkLength(length, from, filepath.Dir(d.file.Name())); err != nil {
		return err
	}
	if from == 0 && length > d.left && resp.StatusCode == http.StatusOK {
		return fmt.Errorf("%w; this server has only the whole", d.over(d.name, length))
	}
	d.total, d.have = length, from
	return errors.Join(d.file.Truncate(from), seek(d.file, from))
}

// take adds what comes to the file, and counts it.
func (d *plainDownload) take(r io.Reader, body *watched) error {
	for d.have+d.got < d.total && d.got < d.left {
		n, err := io.CopyN(d.file, r, min(update.BlockSize, d.total-d.have-d.got, d.left-d.got))
		d.got += n
		if spendErr := d.spend(n); spendErr != nil {
			return spendErr
		}
		switch {
		case err == nil:
		case disk.NoSpace(err):
			return disk.AsNoSpace(err)
		case body.err == nil:
			return err // of the disk
		default:
			return errors.Join(d.cut(body.err), d.file.Sync())
		}
	}
	if err := d.file.Sync(); err != nil {
		return err
	}
	if d.have+d.got < d.total {
		return d.over(d.name, d.total-d.have-d.got)
	}
	return nil
}

// cut returns the error for an answer that ended early.
func (d *plainDownload) cut(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%w: expected %d bytes, got %d: %w", fetch.ErrUnavailable, d.total-d.have, d.got, explain.Network(err))
}

func rewind(f *os.File) error { return seek(f, 0) }

func seek(f *os.File, to int64) error {
	_, err := f.Seek(to, io.SeekStart)
	return err
}

// parseContentRange parses the one form of a Content-Range field that follows on what was asked for:
// "bytes 5-9/10" (RFC 9110, section 14.4).
func parseContentRange(s string) (from, total int64, err error) {
	var last int64
	if _, err := fmt.Sscanf(s, "bytes %d-%d/%d", &from, &last, &total); err != nil {
		return 0, 0, err
	}
	if from < 0 || last < from || total <= last || fmt.Sprintf("bytes %d-%d/%d", from, last, total) != s {
		return 0, 0, fmt.Errorf("Content-Range %.80q", s)
	}
	return from, total, nil
}

// checkLength refuses an archive that has no length, is too long, or does not fit on the disk beside what
// is there of it. No more than its length is read.
func checkLength(length, have int64, dir string) error {
	if length < 0 || length > update.MaxLength {
		return fmt.Errorf("%w: expected a Content-Length up to %d, got %d", fetch.ErrRefused, int64(update.MaxLength), length)
	}
	after := install.Needs(length, 0)
	if err := disk.CheckSpace(dir, length-have+after, 0); err != nil {
		return fmt.Errorf("%w; %d bytes of what is needed are for installing it", err, after)
	}
	return nil
}
