package fetch

import (
	"compress/flate"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// Verifier verifies an upstream's metadata against a trusted state: a trust.State, or a store.Store.
type Verifier interface {
	// Verify is as trust.State.Verify. It is called concurrently with itself, but never during Remember.
	Verify(ctx context.Context, f trust.Fetcher, c trust.Clock) (trust.Accepted, error)

	// Remember is as trust.State.Remember.
	Remember(trust.Accepted) error
}

// Search says how to look for the newest repository. Trusted is required.
type Search struct {
	Trusted Verifier
	Clock   trust.Clock

	// Enough, if not nil, reports whether the first accepted repository is enough, so that the other upstreams need
	// not be asked.
	Enough func(*trust.Repository) bool

	// Looked, if not nil, is called with the result of each upstream: an accepted repository, or an error. Calls are
	// not concurrent.
	Looked func(*Upstream, *trust.Repository, error)
}

// Newest returns the newest repository of all upstreams, verified, or the current one if none has a newer one. It
// does not store the repository, but remembers in s.Trusted what was accepted on the way. An upstream that is behind
// is asked last from then on. One that sent something that no honest upstream has is set aside, if there are others.
//
// Newest waits for the first answer as Ask does, but while an upstream is silent it asks the next one too. It then
// asks all other upstreams at once, one time each, and ignores their errors. If no upstream has an acceptable
// repository, the error joins those of all upstreams.
func (c *Client) Newest(ctx context.Context, s Search) (*trust.Repository, error) {
	r := round{client: c, Search: s, found: map[*Upstream]*trust.Repository{}, tried: map[*Upstream]bool{}}
	err := c.inquire(ctx, c.overdue, r.look)
	if err == nil && (s.Enough == nil || !s.Enough(r.newest)) {
		r.askOthers(ctx)
		err = ctx.Err()
	}
	for _, seen := range r.seen {
		rememberErr := s.Trusted.Remember(seen)
		if err != nil {
			err = errors.Join(err, rememberErr)
		} else if rememberErr != nil { // what is stored next says more
			c.c.Logger.Warn("not remembered", "err", oneLine(rememberErr))
		}
	}
	if err != nil {
		return nil, err
	}
	for u, repo := range r.found {
		u.SetBehind(newer(r.newest, repo))
	}
	return r.newest, nil
}

// round is one call of Newest.
type round struct {
	client *Client
	Search

	mu     sync.Mutex
	seen   []trust.Accepted // to be remembered once no Verify is under way
	found  map[*Upstream]*trust.Repository
	tried  map[*Upstream]bool
	newest *trust.Repository
}

// askOthers asks all upstreams that were not asked yet. It does not wait for a silent one.
func (r *round) askOthers(ctx context.Context) {
	var all sync.WaitGroup
	for _, u := range r.client.upstreams {
		r.mu.Lock()
		tried := r.tried[u]
		r.mu.Unlock()
		if tried || !u.State().Until.IsZero() {
			continue
		}
		all.Go(func() {
			if err := r.client.unlessSilent(ctx, u, r.look); err != nil && !ended(ctx) {
				r.client.c.Logger.Warn("upstream refused", "upstream", u.String(), "err", oneLine(err))
			}
		})
	}
	all.Wait()
}

// look asks one upstream for its repository. Files that another upstream showed already are not fetched again.
func (r *round) look(ctx context.Context, u *Upstream) error {
	r.mu.Lock()
	newest := r.newest
	r.mu.Unlock()
	seen, err := r.Trusted.Verify(ctx, atHand{u, newest}, r.Clock)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, seen)
	if err != nil && ended(ctx) {
		return err
	}
	r.tried[u] = true
	if repo := seen.Repository; err == nil {
		u.SetBehind(false)
		r.found[u] = repo
		if r.newest == nil || newer(repo, r.newest) {
			r.newest = repo
		}
	} else {
		err = r.client.judge(u, err)
	}
	if r.Looked != nil {
		r.Looked(u, seen.Repository, err)
	}
	return err
}

// judge acts on the reason why metadata of an upstream were not accepted: it may call the upstream behind, or set it
// aside. It returns the error with the name of the upstream.
func (c *Client) judge(u *Upstream, err error) error {
	told := fromUpstream(err)
	// Only verified metadata prove that an upstream is behind. After any other error the earlier knowledge still
	// holds.
	if !told && (errors.Is(err, trust.ErrRollback) || errors.Is(err, trust.ErrExpired)) {
		u.SetBehind(true)
	}
	if !told && !errors.Is(err, trust.ErrNotFound) { // which names the URL
		err = fmt.Errorf("%v: %w", u, err)
	}
	if status.Hostile(err) && len(c.upstreams) > 1 {
		u.setAside(err)
	} else if !told {
		u.blame(err)
	}
	return err
}

// fromUpstream reports whether an error is one of this package's, which name the upstream.
func fromUpstream(err error) bool {
	return errors.Is(err, ErrRefused) || errors.Is(err, ErrUnavailable) || errors.Is(err, ErrNotFound)
}

// atHand is an upstream whose files may be answered from repo, which came from another upstream. The caller verifies
// them like all fetched files.
type atHand struct {
	trust.Fetcher
	repo *trust.Repository // nil: none
}

// Fetch returns the file from repo, or asks the upstream.
func (a atHand) Fetch(ctx context.Context, name string, limit int64, known update.Digest) ([]byte, error) {
	role, version, ok := trust.ParseFileName(name)
	if ok && a.repo != nil && role != trust.RoleTimestamp && version == a.repo.Version(role) && int64(len(a.repo.Raw(role))) <= limit {
		return a.repo.Raw(role), nil
	}
	return a.Fetcher.Fetch(ctx, name, limit, known)
}

// newer reports whether a is a newer repository than b.
func newer(a, b *trust.Repository) bool {
	for _, role := range []trust.Role{trust.RoleRoot, trust.RoleTimestamp, trust.RoleSnapshot} {
		if x, y := a.Version(role), b.Version(role); x != y {
			return x > y
		}
	}
	return false
}

// gzipSlack is how many bytes more than the limit a compressed file may have.
const gzipSlack = 1024

// timestampFile is a file that every upstream has.
const timestampFile = "metadata/" + trust.TimestampName

// Fetch implements trust.Fetcher for a metadata file. It asks once, and State shows a failure; to ask again and
// elsewhere, wrap the whole refresh in Ask. A file that the upstream doesn't have is trust.ErrNotFound. A file of
// more than limit bytes, after decompression, is ErrRefused.
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

// plainName reports whether a name is non-empty and needs no escaping in a URL.
func plainName(s string) bool {
	const plain = "abcdefghijklmnopqrstuvwxyz0123456789.-_"
	return s != "" && s[0] != '.' && strings.Trim(s, plain) == ""
}

func (u *Upstream) fetch(ctx context.Context, file string, limit int64, known update.Digest) ([]byte, error) {
	header := http.Header{"Accept-Encoding": {"gzip"}}
	if !known.IsZero() {
		// The ETag is that of the uncompressed file; the compressed one has another.
		header = http.Header{"Accept-Encoding": {"identity"}, "If-None-Match": {`"` + known.String() + `"`}}
	}
	a, err := u.get(ctx, file, header)
	if err != nil {
		return nil, err
	}
	defer a.Body.Close()
	if file == timestampFile {
		u.mu.Lock()
		u.via = a.Header.Get(ViaHeader)
		u.mu.Unlock()
	}
	if a.StatusCode == http.StatusNotModified && !known.IsZero() {
		return nil, fmt.Errorf("%v/%s: %w", u, file, trust.ErrUnchanged)
	}
	if name, ok := strings.CutPrefix(file, "metadata/"); ok && trust.IsNotFound(name, a.StatusCode) {
		return nil, fmt.Errorf("%v/%s: %w", u, file, trust.ErrNotFound)
	}
	if err := u.status(file, a, false); err != nil {
		return nil, err
	}
	return u.decoded(ctx, file, a, limit)
}

// decoded reads the body of a file that may be compressed, of at most limit bytes.
func (u *Upstream) decoded(ctx context.Context, file string, a *http.Response, limit int64) ([]byte, error) {
	switch coding := a.Header.Get("Content-Encoding"); coding {
	case "", "identity":
		return u.bounded(ctx, file, a.Body, limit)
	case "gzip", "x-gzip":
		return u.unzipped(ctx, file, a, limit)
	default:
		return nil, u.refusef(file, "expected Content-Encoding gzip or none, got %.40q", coding)
	}
}

// unzipped reads a compressed file. An endless row of empty gzip members would never reach the limit on the output,
// so the input is bounded as well.
func (u *Upstream) unzipped(ctx context.Context, file string, a *http.Response, limit int64) (b []byte, err error) {
	in := &io.LimitedReader{R: a.Body, N: limit + gzipSlack + 1}
	z, err := gzip.NewReader(in)
	if err != nil {
		err = u.cut(ctx, file, err, 0, 0)
	} else {
		b, err = u.bounded(ctx, file, z, limit)
	}
	if in.N <= 0 && !errors.Is(err, ErrRefused) {
		return nil, u.refusef(file, "expected at most %d compressed bytes, got more", limit+gzipSlack)
	}
	if wrong := noGzip(err); wrong != nil {
		return nil, u.refusef(file, "expected a whole gzip file, got %w", wrong)
	}
	return b, err
}

// noGzip returns the error in err that says the gzip data itself are wrong, nil if the file was only cut or is fine.
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

// bounded reads all of r. More than limit bytes are ErrRefused.
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

// Text asks the upstreams, as Ask does, for a file of at most limit bytes by its path below the base URL. The content is
// not verified.
func (c *Client) Text(ctx context.Context, path string, limit int64) (text []byte, err error) {
	err = c.Ask(ctx, func(ctx context.Context, u *Upstream) (err error) {
		if err = u.checkPath(path); err == nil {
			text, err = u.fetch(ctx, path, limit, update.Digest{})
		}
		return err
	})
	return text, err
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
