package fetch

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// File is an archive that comes in one piece, because no block list of it is known or signed.
type File struct {
	Name   update.Name
	Digest update.Digest // zero: not known; then a whole answer replaces what came, and the caller must verify the result
	Length int64         // negative: not known; then the server declares it, and each whole answer again if Digest is zero

	// Paths are its paths below a base URL, in the order in which they are tried.
	Paths []string

	// Anew drops what came whenever the download is cut. It is for servers that know no ranges and change files in
	// place: the rest could be of another file.
	Anew bool

	// Begin, if not nil, is called with the length before any byte comes, and again whenever what came is dropped
	// because the server may have another file now. An error ends the download.
	Begin func(length int64) error

	// Budget, if not nil, bounds how much of it comes.
	Budget Budget

	// Progress, if not nil, is told how many bytes are there.
	Progress func(done int64)
}

// Budget bounds how many bytes of archives come, for example per day over a metered link. Bytes beyond it are not
// asked for.
type Budget interface {
	// Left returns how many bytes may come now.
	Left() int64

	// Spend counts bytes that came, also those that came again, of an archive of which here bytes are now on the disk.
	Spend(bytes, here int64) error

	// Over returns the error for a download that needs so many more bytes at once.
	Over(need int64) error
}

// fileOf returns the File of a release that comes in one piece.
func (c *Client) fileOf(rel trust.Release) File {
	return File{
		Name: rel.Name(), Digest: rel.Digest(), Length: rel.Length(),
		Paths:    []string{"sha256/" + rel.Digest().String(), fmt.Sprintf("targets/%v.%v", rel.Digest(), rel.Name())},
		Progress: func(done int64) { c.c.Progress(rel, done) },
	}
}

// whole brings an archive for which no upstream has a block list into file; see WholeFile.
func (c *Client) whole(ctx context.Context, rel trust.Release, file *os.File) (update.Blocks, error) {
	if rel.IsZero() {
		return nil, errNoRelease
	}
	_, blocks, err := c.WholeFile(ctx, c.fileOf(rel), file)
	return blocks, err
}

// WholeFile brings an archive into file, continues after the bytes that file already holds, and returns the digest and
// the block list, which it computes. It verifies the digest when all bytes are there; until then the caller must not use the
// content. The caller locks, syncs and closes file.
//
// If the digest differs, WholeFile empties file and fetches the archive again, from one upstream alone, so that a
// second failure has one known culprit. After any other error file holds the bytes that came.
func (c *Client) WholeFile(ctx context.Context, what File, file *os.File) (update.Digest, update.Blocks, error) {
	w := wholeFile{client: c, what: what, file: file, buf: make([]byte, readSize)}
	err := w.begin(ctx)
	if err == nil {
		err = c.Ask(ctx, w.from)
	}
	if err != nil {
		return update.Digest{}, nil, fmt.Errorf("download %v: %w", what.Name, err)
	}
	return w.digest, w.blocks, nil
}

// wholeFile is one call of WholeFile.
type wholeFile struct {
	client *Client
	what   File // its length may become known later
	file   *os.File
	buf    []byte

	source source
	sent   map[*Upstream]bool // upstreams whose bytes file holds; nil key: bytes from before this call
	alone  bool               // one upstream has to send everything
	hash   update.Hasher
	size   int64 // of file, and in hash
	came   int64 // bytes that the budget has not counted yet
	most   int64 // the highest size yet
	starts int   // how often restart was called

	digest update.Digest // once all is there
	blocks update.Blocks
}

// begin reads the bytes that the file already holds.
func (w *wholeFile) begin(ctx context.Context) error {
	w.sent = map[*Upstream]bool{}
	info, err := w.file.Stat()
	if err != nil {
		return err
	}
	size := info.Size()
	if w.what.Length >= 0 {
		if size > w.what.Length {
			size = 0
			if err := w.empty(); err != nil {
				return err
			}
		}
		if w.what.Begin != nil {
			if err := w.what.Begin(w.what.Length); err != nil {
				return err
			}
		}
	}
	for w.size < size {
		n, err := w.file.ReadAt(w.buf[:min(int64(len(w.buf)), size-w.size)], w.size)
		w.hash.Write(w.buf[:n])
		w.size += int64(n)
		if n == 0 {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if w.most = w.size; w.size > 0 {
		w.sent[nil] = true
	}
	return nil
}

// empty drops all bytes that came.
func (w *wholeFile) empty() error {
	w.hash.Result()
	w.size = 0
	clear(w.sent)
	return w.file.Truncate(0)
}

// maxStarts bounds how often a download starts at the first byte because the server sends no rest of the same file.
// Each start may come further than the one before, so that the patience of the call alone would allow too many.
const maxStarts = 10

// restart drops all bytes that came, because the server may have another file now, of another length.
func (w *wholeFile) restart() error {
	w.starts++
	w.what.Length = -1
	return w.empty()
}

func (w *wholeFile) from(ctx context.Context, u *Upstream) error {
	if w.what.Anew {
		if err := w.restart(); err != nil {
			return &local{err}
		}
		w.source.u = nil
	}
	if w.source.u != u {
		w.source = w.client.sourceOf(u, w.what)
		if w.alone && !w.sent[u] {
			if err := w.empty(); err != nil {
				return &local{err}
			}
		}
	}
	for {
		before := w.most
		err := w.bring(ctx)
		if spendErr := w.spend(); spendErr != nil {
			return &local{spendErr}
		}
		if errors.Is(err, ErrRefused) && w.size == w.what.Length {
			w.client.distrust(u, err) // the digest decides about the bytes that came before
		} else if err != nil && w.starts >= maxStarts {
			return &local{err} // ends the call
		} else if err != nil {
			return w.client.withProgress(err, w.most-before)
		}
		if again, err := w.judge(u); !again {
			return err
		}
	}
}

// judge compares the digest when all bytes are there. If it differs and several upstreams sent parts, it empties the
// file and reports that the archive has to come again.
func (w *wholeFile) judge(u *Upstream) (again bool, err error) {
	got, blocks, _ := w.hash.Result()
	if got == w.what.Digest || w.what.Digest.IsZero() {
		w.digest, w.blocks = got, blocks
		return false, nil
	}
	sole := len(w.sent) == 1 && w.sent[u]
	if err := w.empty(); err != nil {
		return false, &local{err}
	}
	if sole || w.alone { // no third try
		return false, w.source.damagedf(w.source.file(), "expected digest %v, got %v", w.what.Digest, got)
	}
	w.client.c.Logger.Warn("parts from several sources do not fit; starting over", "archive", w.what.Name, "got", got)
	w.alone = true
	return true, nil
}

// bring brings the missing end of the file, as far as the budget allows.
func (w *wholeFile) bring(ctx context.Context) error {
	for w.what.Length < 0 || w.size < w.what.Length {
		left := int64(math.MaxInt64)
		if w.what.Budget != nil {
			if err := w.spend(); err != nil {
				return &local{err}
			}
			if left = w.what.Budget.Left(); left <= 0 {
				return &local{w.what.Budget.Over(max(1, w.what.Length-w.size))}
			}
		}
		to := w.what.Length
		if to < 0 || to-w.size > left {
			to = w.size + min(left, update.MaxLength)
		}
		p, err := w.source.open(ctx, w.size, to)
		if err != nil {
			return err
		}
		if err = w.accept(p, left); err == nil {
			err = w.take(ctx, p)
		}
		p.Body.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// accept decides whether the rest comes from an answer, of which at most left bytes may come. It takes over the length
// that the answer declares, if that was not known before or is another one now.
func (w *wholeFile) accept(p *piece, left int64) error {
	if w.what.Digest.IsZero() && p.from < w.size {
		if p.to == w.size && w.sent[nil] && len(w.sent) == 1 {
			p.from = p.to // it is all there since before this call
		} else if p.to-p.from <= left {
			// Without a digest nothing tells whether this is the file that the bytes before came from.
			if err := w.restart(); err != nil {
				return &local{err}
			}
		}
	}
	if p.to-p.from > left {
		return &local{fmt.Errorf("%w; this server has only the whole", w.what.Budget.Over(p.to-p.from))}
	}
	if w.what.Length == w.source.length {
		return nil
	}
	w.what.Length = w.source.length
	if w.what.Begin == nil {
		return nil
	}
	if err := w.what.Begin(w.what.Length); err != nil {
		return &local{err}
	}
	return nil
}

// take appends the bytes of a piece that are new to the file.
func (w *wholeFile) take(ctx context.Context, p *piece) error {
	if p.from == p.to {
		return nil // what follows in the answer is not wanted
	}
	for at := p.from; at < w.size; {
		n, err := p.skip(min(w.size-at, update.BlockSize))
		at += n
		if err := w.count(n); err != nil {
			return &local{err}
		}
		if err != nil {
			return p.u.cut(ctx, p.file, err, p.to-p.from, at-p.from)
		}
	}
	for w.size < p.to {
		n, err := p.Body.Read(w.buf[:min(int64(len(w.buf)), p.to-w.size)])
		if err := w.append(p.u, w.buf[:n]); err != nil {
			return &local{err}
		}
		if err != nil && w.size < p.to {
			return p.u.cut(ctx, p.file, err, p.to-p.from, w.size-p.from)
		}
	}
	return p.over()
}

func (w *wholeFile) append(u *Upstream, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if _, err := w.file.WriteAt(b, w.size); err != nil {
		return err
	}
	w.sent[u] = true
	w.hash.Write(b)
	w.size += int64(len(b))
	w.most = max(w.most, w.size)
	if w.what.Progress != nil {
		w.what.Progress(w.size)
	}
	return w.count(int64(len(b)))
}

// count counts bytes that came, and passes them to the budget once they are as many as a block has.
func (w *wholeFile) count(bytes int64) error {
	if w.came += bytes; w.came < update.BlockSize {
		return nil
	}
	return w.spend()
}

// spend counts the bytes that came since its last call in the budget.
func (w *wholeFile) spend() error {
	came := w.came
	w.came = 0
	if w.what.Budget == nil || came == 0 {
		return nil
	}
	return w.what.Budget.Spend(came, w.size)
}
