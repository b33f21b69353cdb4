package fetch

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// Whole brings an archive for which no upstream has a block list into file, goes on with what file holds
// already, and returns the block list, which it computes. The archive is judged by its digest once it is
// all there: until then the caller must not use what file holds. The caller locks file, syncs and closes
// it.
//
// Where the digest differs file is emptied, and the archive comes anew: from one upstream alone, so that
// the next time it is clear which one is at fault. After any other error file holds what came.
func (c *Client) Whole(ctx context.Context, rel trust.Release, file *os.File) (update.Blocks, error) {
	if rel.IsZero() {
		return nil, errNoRelease
	}
	w := whole{client: c, rel: rel, file: file, buf: make([]byte, readSize)}
	if err := w.begin(ctx); err != nil {
		return nil, fmt.Errorf("download %v: %w", rel.Name(), err)
	}
	if err := c.Ask(ctx, w.from); err != nil {
		return nil, fmt.Errorf("download %v: %w", rel.Name(), err)
	}
	return w.blocks, nil
}

// whole is one call of Whole.
type whole struct {
	client *Client
	rel    trust.Release
	file   *os.File
	buf    []byte

	source source
	sent   map[*Upstream]bool // whose bytes file holds; nil key: somebody's from before
	alone  bool               // one upstream has to send everything
	hash   update.Hasher
	size   int64 // of file, and in hash
	most   int64 // the highest size yet
	blocks update.Blocks
}

// begin takes over what the file holds.
func (w *whole) begin(ctx context.Context) error {
	w.sent = map[*Upstream]bool{}
	info, err := w.file.Stat()
	if err != nil {
		return err
	}
	if info.Size() > w.rel.Length() {
		return w.empty()
	}
	for w.size < info.Size() {
		n, err := w.file.ReadAt(w.buf[:min(int64(len(w.buf)), info.Size()-w.size)], w.size)
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

// empty drops what came.
func (w *whole) empty() error {
	w.hash.Result()
	w.size = 0
	clear(w.sent)
	return w.file.Truncate(0)
}

func (w *whole) from(ctx context.Context, u *Upstream) error {
	if w.source.u != u {
		w.source = source{u: u, rel: w.rel}
		if w.alone && !w.sent[u] {
			if err := w.empty(); err != nil {
				return &local{err}
			}
		}
	}
	for {
		before := w.most
		err := w.bring(ctx)
		if errors.Is(err, ErrRefused) && w.size == w.rel.Length() {
			w.client.distrust(u, err) // the digest says what is worth what came before
		} else if err != nil {
			return w.client.withProgress(err, w.most-before)
		}
		if again, err := w.judge(u); !again {
			return err
		}
	}
}

// judge compares the digest once everything is there. Where it differs and several sent parts, the archive
// has to come again.
func (w *whole) judge(u *Upstream) (again bool, err error) {
	got, blocks, _ := w.hash.Result()
	if got == w.rel.Digest() {
		w.blocks = blocks
		return false, nil
	}
	sole := len(w.sent) == 1 && w.sent[u]
	if err := w.empty(); err != nil {
		return false, &local{err}
	}
	if sole || w.alone { // the second whole one is the last
		return false, u.damagedf(w.rel, w.source.file(), "expected digest %v, got %v", w.rel.Digest(), got)
	}
	w.client.c.Logger.Warn("parts from several sources do not fit; starting over", "archive", w.rel.Name(), "got", got)
	w.alone = true
	return true, nil
}

// bring brings what is missing at the end of the file.
func (w *whole) bring(ctx context.Context) error {
	for w.size < w.rel.Length() {
		p, err := w.source.open(ctx, w.size, w.rel.Length())
		if err != nil {
			return err
		}
		err = w.take(ctx, p)
		p.Body.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *whole) take(ctx context.Context, p *piece) error {
	if skipped, err := p.skip(w.size - p.from); err != nil {
		return p.u.cut(ctx, p.file, err, p.to-p.from, skipped)
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

func (w *whole) append(u *Upstream, b []byte) error {
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
	w.client.c.Progress(w.rel, w.size)
	return nil
}
