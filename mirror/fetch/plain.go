package fetch

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/openpowerquality/box-update-server/update"
)

// Plain is a file from a server that declares only its length. Its content is not verified.
type Plain struct {
	Length int64

	u    *Upstream
	ctx  context.Context
	file string
	got  int64
	from *http.Response
}

// Plain asks once for a file by its path below the base URL; call it within Ask to have it asked again. The caller
// closes the result. An answer without a length is ErrRefused.
func (u *Upstream) Plain(ctx context.Context, path string) (*Plain, error) {
	if err := u.checkPath(path); err != nil {
		return nil, err
	}
	a, err := u.get(ctx, path, http.Header{"Accept-Encoding": {"identity"}})
	if err != nil {
		return nil, err
	}
	err = u.status(path, a, false)
	if err == nil {
		err = u.plain(path, a)
	}
	if err == nil && a.ContentLength < 0 {
		err = u.refusef(path, "expected a Content-Length, got none: what is cut could not be told from what is whole")
	}
	if err != nil {
		a.Body.Close()
		return nil, err
	}
	return &Plain{Length: a.ContentLength, u: u, ctx: ctx, file: path, from: a}, nil
}

// Read reads the file. The error is ErrUnavailable if the file ends before its length.
func (p *Plain) Read(b []byte) (int, error) {
	n, err := p.from.Body.Read(b)
	p.got += int64(n)
	if err != nil && (!errors.Is(err, io.EOF) || p.got != p.Length) {
		return n, p.u.client.withProgress(p.u.cut(p.ctx, p.file, err, p.Length, p.got), p.got)
	}
	return n, err
}

// Close ends the answer, whether or not it was read to its end.
func (p *Plain) Close() error {
	p.from.Body.Close()
	return nil
}

// Text asks once for a file of at most limit bytes by its path below the base URL; call it within Ask to have it
// asked again. The content is not verified.
func (u *Upstream) Text(ctx context.Context, path string, limit int64) ([]byte, error) {
	if err := u.checkPath(path); err != nil {
		return nil, err
	}
	return u.fetch(ctx, path, limit, update.Digest{})
}

// checkPath refuses a path that would need escaping in a URL. The path may end with a query of one value.
func (u *Upstream) checkPath(path string) error {
	path, query, asked := strings.Cut(path, "?")
	key, value, _ := strings.Cut(query, "=")
	if asked && !(plainName(key) && plainName(value)) {
		return u.failf("", "%.80q: expected a query of one value", query)
	}
	for name := range strings.SplitSeq(path, "/") {
		if !plainName(name) {
			return u.failf("", "%.80q: expected the path of a file", path)
		}
	}
	return nil
}
