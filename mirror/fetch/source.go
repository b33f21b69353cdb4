package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/openpowerquality/box-update-server/update"
)

// source is an upstream that one call asks for an archive, with what the call has learned about it.
type source struct {
	u      *Upstream
	name   update.Name
	digest update.Digest // zero: not known
	length int64         // negative: not known before the first answer
	paths  []string      // where to look for the archive, in order
	at     int           // index in paths
	etag   string        // strong; "": not known
	whole  bool          // ranges are refused
}

func (c *Client) sourceOf(u *Upstream, f File) source {
	return source{u: u, name: f.Name, digest: f.Digest, length: f.Length, paths: f.Paths}
}

// piece is an answer with the bytes of an archive from from up to, but not including, to.
type piece struct {
	*http.Response
	u        *Upstream
	file     string
	from, to int64
}

// open asks for the bytes from from up to, but not including, to. The answer may begin earlier and end later.
func (s *source) open(ctx context.Context, from, to int64) (*piece, error) {
	first, err := s.ask(ctx, from, to)
	if s.at > 0 || s.at+1 == len(s.paths) || !errors.Is(err, ErrNotFound) {
		return first, err
	}
	s.at++
	p, elseErr := s.ask(ctx, from, to)
	if errors.Is(elseErr, ErrNotFound) {
		s.at = 0
		return nil, err
	}
	return p, elseErr
}

func (s *source) file() string { return s.paths[s.at] }

// damagedf reports that the bytes that came are not those of the archive, and returns an ErrDamaged.
func (s *source) damagedf(file, format string, args ...any) error {
	return s.u.damagedf(s.name, s.digest, file, format, args...)
}

func (s *source) ask(ctx context.Context, from, to int64) (*piece, error) {
	header := http.Header{"Accept-Encoding": {"identity"}}
	ranged := !s.whole && (from > 0 || s.length < 0 && to < update.MaxLength || to < s.length)
	if ranged {
		header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, to-1))
		if s.etag != "" {
			header.Set("If-Range", s.etag)
		}
	}
	a, err := s.u.get(ctx, s.file(), header)
	if err != nil {
		return nil, err
	}
	if ranged && (a.StatusCode == http.StatusRequestedRangeNotSatisfiable || a.StatusCode == http.StatusNotImplemented) {
		if a.StatusCode == http.StatusRequestedRangeNotSatisfiable && from > 0 && s.length < 0 && s.digest.IsZero() {
			s.length = from // the archive ends where the bytes that are there end
			return &piece{Response: a, u: s.u, file: s.file(), from: from, to: from}, nil
		}
		a.Body.Close()
		s.whole = true // it may still send the whole archive
		return s.ask(ctx, from, to)
	}
	p := &piece{Response: a, u: s.u, file: s.file(), from: from, to: to}
	if err := s.check(p, ranged); err != nil {
		a.Body.Close()
		return nil, err
	}
	s.etag = ""
	if etag := a.Header.Get("ETag"); strings.HasPrefix(etag, `"`) {
		s.etag = etag
	}
	return p, nil
}

// check checks the header of an answer. A whole archive is accepted instead of a range, though it takes longer: the
// upstream may not support ranges, or says that the archive changed since the last one.
func (s *source) check(p *piece, ranged bool) error {
	if err := s.u.status(p.file, p.Response, ranged); err != nil {
		return err
	}
	if err := s.u.plain(p.file, p.Response); err != nil {
		return err
	}
	if p.StatusCode == http.StatusOK {
		if s.length < 0 || s.digest.IsZero() {
			if p.ContentLength < 0 {
				return s.u.refusef(p.file, "expected a Content-Length, got none: a cut file could not be told from a whole one")
			}
			if p.ContentLength > update.MaxLength {
				return s.u.refusef(p.file, "expected a Content-Length up to %d, got %d", int64(update.MaxLength), p.ContentLength)
			}
			s.length = p.ContentLength
		}
		p.from, p.to = 0, s.length
	} else if err := s.checkRange(p); err != nil {
		return err
	}
	if want := p.to - p.from; p.ContentLength >= 0 && p.ContentLength != want {
		if p.StatusCode == http.StatusOK { // the file was cut, or is another one
			return s.damagedf(p.file, "expected %d bytes, got Content-Length %d", want, p.ContentLength)
		}
		return s.u.refusef(p.file, "expected %d bytes, got Content-Length %d", want, p.ContentLength)
	}
	return nil
}

// checkRange accepts a range that begins where it was asked to, and ends where it was asked to or, as RFC 9110
// allows, earlier.
func (s *source) checkRange(p *piece) error {
	r, err := parseContentRange(p.Header.Get("Content-Range"))
	if err != nil {
		return s.u.refusef(p.file, "%w", err)
	}
	if s.length < 0 {
		if r.total > update.MaxLength {
			return s.u.refusef(p.file, "expected at most %d bytes, got Content-Range %q", int64(update.MaxLength), r)
		}
		s.length = r.total
	}
	if r.first != p.from || r.last >= p.to || r.total != s.length {
		want := byteRange{p.from, p.to - 1, s.length}
		if r.total != s.length {
			return s.damagedf(p.file, "expected Content-Range %q, got %q", want, r)
		}
		return s.u.refusef(p.file, "expected Content-Range %q, got %q", want, r)
	}
	p.to = r.last + 1
	return nil
}

// fill fills buf with the next bytes, and calls progress for each read.
func (p *piece) fill(buf []byte, progress func(n int)) (n int, err error) {
	for n < len(buf) && err == nil {
		var got int
		got, err = p.Body.Read(buf[n:])
		n += got
		if got > 0 {
			p.u.noteProgress()
			progress(got)
		}
	}
	if n == len(buf) {
		return n, nil
	}
	return n, err
}

// skip drops n bytes.
func (p *piece) skip(n int64) (int64, error) {
	got, err := io.CopyBuffer(io.Discard, io.LimitReader(p.Body, n), nil)
	if err == nil && got < n {
		err = io.ErrUnexpectedEOF
	}
	return got, err
}

// over refuses a piece that has more bytes than it should.
func (p *piece) over() error {
	// Reading the end of a body lets the connection serve the next request. A read error is an end as well.
	if n, _ := io.ReadFull(p.Body, make([]byte, 1)); n > 0 {
		return p.u.refusef(p.file, "expected %d bytes, got more", p.to-p.from)
	}
	return nil
}

// byteRange is bytes first to last, both included, of total.
type byteRange struct{ first, last, total int64 }

// String returns the value of a Content-Range field.
func (r byteRange) String() string { return fmt.Sprintf("bytes %d-%d/%d", r.first, r.last, r.total) }

// parseContentRange parses the value of a Content-Range field (RFC 9110, section 14.4). It refuses an unknown range
// or total, and numbers with leading zeros.
func parseContentRange(s string) (byteRange, error) {
	fail := fmt.Errorf("expected a Content-Range such as %q, got %.80q", "bytes 0-99/1000", s)
	span, ok := strings.CutPrefix(s, "bytes ")
	if !ok || len(s) > 80 {
		return byteRange{}, fail
	}
	span, total, ok1 := strings.Cut(span, "/")
	first, last, ok2 := strings.Cut(span, "-")
	if !ok1 || !ok2 {
		return byteRange{}, fail
	}
	var r byteRange
	for i, part := range []string{first, last, total} {
		n, err := strconv.ParseUint(part, 10, 63)
		if err != nil || strconv.FormatUint(n, 10) != part {
			return byteRange{}, fail
		}
		*[]*int64{&r.first, &r.last, &r.total}[i] = int64(n)
	}
	if r.first > r.last || r.last >= r.total {
		return byteRange{}, fail
	}
	return r, nil
}
