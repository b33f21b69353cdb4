package fetch

import (
	"compress/flate"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// gzipSlack is how many bytes more than the limit a compressed file may have.
const gzipSlack = 1024

// timestampFile is what every upstream has.
const timestampFile = "metadata/" + trust.TimestampName

// Fetch brings a metadata file, as a trust.Fetcher does. It asks once; what goes wrong shows in State, and
// Ask around a whole refresh asks again and elsewhere. A file that the upstream doesn't have is
// trust.ErrNotFound, and one of more than limit bytes, as they come out of gzip, is ErrRefused.
func (u *Upstream) Fetch(ctx context.Context, name string, limit int64, known update.Digest) ([]byte, error) {
	if !plainName(name) {
		return nil, fmt.Errorf("%v: metadata %.80q: expected a file name", u, name)
	}
	began := time.Now()
	b, err := u.fetch(ctx, "metadata/"+name, limit, known)
	if !ended(ctx) {
		u.note(began, err)
	}
	return b, err
}

// plainName reports whether a name stands for itself in a URL.
func plainName(s string) bool {
	const plain = "abcdefghijklmnopqrstuvwxyz0123456789.-_"
	return s != "" && s[0] != '.' && strings.Trim(s, plain) == ""
}

func (u *Upstream) fetch(ctx context.Context, file string, limit int64, known update.Digest) ([]byte, error) {
	header := http.Header{"Accept-Encoding": {"gzip"}}
	if !known.IsZero() {
		// The entity tag is that of the file as it is: compressed it has another.
		header = http.Header{"Accept-Encoding": {"identity"}, "If-None-Match": {`"` + known.String() + `"`}}
	}
	a, err := u.get(ctx, file, header)
	if err != nil {
		return nil, err
	}
	defer a.close()
	if file == timestampFile {
		u.noteVia(a.Header)
	}
	if a.StatusCode == http.StatusNotModified && !known.IsZero() {
		return nil, fmt.Errorf("%v/%s: %w", u, file, trust.ErrUnchanged)
	}
	if trust.IsNotFound(path.Base(file), a.StatusCode) {
		return nil, fmt.Errorf("%v/%s: %w", u, file, trust.ErrNotFound)
	}
	if err := u.status(file, a, false); err != nil {
		return nil, err
	}
	return u.decoded(ctx, file, a, limit)
}

// decoded reads the body of a file that may be compressed, of at most limit bytes.
func (u *Upstream) decoded(ctx context.Context, file string, a *answer, limit int64) ([]byte, error) {
	switch coding := a.Header.Get("Content-Encoding"); coding {
	case "", "identity":
		return u.bounded(ctx, file, a.body, limit)
	case "gzip", "x-gzip":
		return u.unzipped(ctx, file, a, limit)
	default:
		return nil, u.refusef(file, "expected Content-Encoding gzip or none, got %.40q", coding)
	}
}

// unzipped reads a compressed file. Empty members without end never reach the limit on what comes out, so
// what goes in is bounded as well.
func (u *Upstream) unzipped(ctx context.Context, file string, a *answer, limit int64) ([]byte, error) {
	in := &io.LimitedReader{R: a.body, N: limit + gzipSlack + 1}
	b, err := u.gunzipped(ctx, file, in, limit)
	if in.N <= 0 && !errors.Is(err, ErrRefused) {
		return nil, u.refusef(file, "expected at most %d compressed bytes, got more", limit+gzipSlack)
	}
	if wrong := noGzip(err); wrong != nil {
		return nil, u.refusef(file, "expected a whole gzip file, got %w", wrong)
	}
	return b, err
}

func (u *Upstream) gunzipped(ctx context.Context, file string, in io.Reader, limit int64) ([]byte, error) {
	z, err := gzip.NewReader(in)
	if err != nil {
		return nil, u.cut(ctx, file, err, 0, 0)
	}
	return u.bounded(ctx, file, z, limit)
}

// noGzip returns what is wrong with a compressed file that came uncut, nil where nothing is.
func noGzip(err error) error {
	var corrupt flate.CorruptInputError
	switch {
	case errors.Is(err, gzip.ErrHeader):
		return gzip.ErrHeader
	case errors.Is(err, gzip.ErrChecksum):
		return gzip.ErrChecksum
	case errors.As(err, &corrupt):
		return corrupt
	}
	return nil
}

// bounded reads all of at most limit bytes.
func (u *Upstream) bounded(ctx context.Context, file string, r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if int64(len(b)) > limit {
		return nil, u.refusef(file, "expected at most %d bytes, got more", limit)
	}
	if err != nil {
		return nil, u.cut(ctx, file, err, 0, int64(len(b)))
	}
	return b, nil
}
