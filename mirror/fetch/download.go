package fetch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// blockList returns the verified block list of an archive. The list of an archive of one block is its digest, and needs
// no request. The error is ErrNotFound if an upstream that could be asked has no block lists and no other upstream
// sent this one: see whole.
func (c *Client) blockList(ctx context.Context, rel trust.Release) (update.Blocks, error) {
	if rel.IsZero() {
		return nil, errNoRelease
	}
	if blocks, ok := knownBlocks(rel); ok {
		return blocks, nil
	}
	var blocks update.Blocks
	err := c.Ask(ctx, func(ctx context.Context, u *Upstream) (err error) {
		blocks, err = u.blockList(ctx, rel)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("block list of %v: %w", rel.Name(), err)
	}
	return blocks, nil
}

var errNoRelease = errors.New("fetch: no verified release")

// knownBlocks returns the block list of an archive that has at most one block.
func knownBlocks(rel trust.Release) (update.Blocks, bool) {
	var blocks update.Blocks
	if rel.Length() > update.BlockSize {
		return nil, false
	}
	if rel.Length() > 0 {
		blocks = update.Blocks{rel.Digest()}
	}
	return blocks, update.Sum(blocks.Bytes()) == rel.Blocks()
}

func (u *Upstream) blockList(ctx context.Context, rel trust.Release) (update.Blocks, error) {
	file := "sha256/" + rel.Digest().String() + ".blocks"
	a, err := u.get(ctx, file, http.Header{"Accept-Encoding": {"identity"}})
	if err != nil {
		return nil, err
	}
	defer a.Body.Close()
	if err := u.status(file, a, false); err != nil {
		return nil, err
	}
	if err := u.plain(file, a); err != nil {
		return nil, err
	}
	want := int64(update.BlockCount(rel.Length())) * int64(len(update.Digest{}))
	raw, err := u.bounded(ctx, file, a.Body, want)
	if err != nil {
		return nil, err
	}
	if got := update.Sum(raw); got != rel.Blocks() {
		return nil, u.damagedf(rel.Name(), rel.Digest(), file, "expected digest %v, got %v", rel.Blocks(), got)
	}
	blocks, err := update.ParseBlocks(raw, rel.Length())
	if err != nil {
		return nil, u.refusef(file, "%w", err)
	}
	return blocks, nil
}

// plain refuses an answer that is encoded.
func (u *Upstream) plain(file string, a *http.Response) error {
	if coding := a.Header.Get("Content-Encoding"); coding != "" && coding != "identity" {
		return u.refusef(file, "expected no Content-Encoding, got %.40q", coding)
	}
	return nil
}

// checkBlocks refuses a block list that is not the release's.
func checkBlocks(rel trust.Release, blocks update.Blocks) error {
	if rel.IsZero() {
		return errNoRelease
	}
	if got := update.Sum(blocks.Bytes()); got != rel.Blocks() {
		return fmt.Errorf("%v: block list: expected digest %v, got %v", rel.Name(), rel.Blocks(), got)
	}
	if want := update.BlockCount(rel.Length()); len(blocks) != want {
		return fmt.Errorf("%v: block list: expected %d blocks, got %d", rel.Name(), want, len(blocks))
	}
	return nil
}

// sink takes the blocks of one archive, verifies them and keeps them: a store.Ingest.
type sink interface {
	// Missing returns the numbers of the blocks that are not there, ascending.
	Missing() []int

	// WriteBlock takes block i, all of it. It compares p with the block list before it writes anything,
	// and returns an error where they differ. After nil, Missing doesn't list i. It must not keep p.
	WriteBlock(i int, p []byte) error
}

// download brings the blocks of an archive that to misses; blocks is its block list. It does not commit. A wrong
// block is logged, and another upstream is asked for that block alone; after a few wrong blocks the upstream is left
// for this archive. A cut costs at most the block in flight. An error of to itself is returned at once. A block that
// exceeds the budget, which may be nil, ends the download with Budget.Over before any upstream is asked for it.
//
// After an error, to has the blocks that came before it.
func (c *Client) download(ctx context.Context, rel trust.Release, blocks update.Blocks, to sink, budget Budget) error {
	if err := checkBlocks(rel, blocks); err != nil {
		return fmt.Errorf("download %w", err)
	}
	buf := c.buffer(min(update.BlockSize, rel.Length()))
	defer c.buffers.Put(buf)
	d := download{client: c, rel: rel, blocks: blocks, sink: to, budget: budget, buf: *buf, wrong: map[*Upstream]map[int]error{}}
	err := d.allowNext()
	if err == nil {
		err = c.Ask(ctx, d.from)
	}
	if err != nil {
		return fmt.Errorf("download %v: %w", rel.Name(), err)
	}
	return nil
}

// allowNext refuses the next missing block if it exceeds the budget.
func (d *download) allowNext() error {
	missing := d.sink.Missing()
	if d.budget == nil || len(missing) == 0 {
		return nil
	}
	if next := update.BlockLength(d.rel.Length(), missing[0]); next > d.budget.Left() {
		return d.budget.Over(next)
	}
	return nil
}

// maxWrong is how many wrong blocks of one archive an upstream may send before it is left for that archive. A bad
// disk damages a block or two; a hostile upstream must not make every block come twice.
const maxWrong = 3

// download is one call of Client.download. Between attempts it keeps the beginning of the block in flight only if the
// upstream stays the same, so that a wrong block has one known sender.
type download struct {
	client *Client
	rel    trust.Release
	blocks update.Blocks
	sink   sink
	budget Budget // nil: no bound

	wrong map[*Upstream]map[int]error // the blocks that each has wrong

	source source
	buf    []byte // for one block
	block  int    // in flight
	filled int    // bytes of it in buf
	done   int64  // bytes of the archive that are there
	most   int64  // the highest done yet
}

// buffer returns room for a block. Buffers are pooled, because many archives are small and allocating one for each
// would be most of the work.
func (c *Client) buffer(length int64) *[]byte {
	if buf, ok := c.buffers.Get().(*[]byte); ok && int64(len(*buf)) >= length {
		return buf
	}
	buf := make([]byte, length)
	return &buf
}

// from brings the missing blocks from one upstream, except those that it has wrong.
func (d *download) from(ctx context.Context, u *Upstream) error {
	if d.source.u != u {
		d.source = d.client.sourceOf(u, d.client.fileOf(d.rel))
		d.filled = 0
	}
	d.run()
	before := d.most
	for {
		first, count := d.run()
		if count == 0 {
			return d.damage()
		}
		err := d.bring(ctx, first, count)
		if errors.Is(err, ErrDamaged) {
			return err
		}
		if _, left := d.run(); left == 0 && errors.Is(err, ErrRefused) {
			// All blocks had come before the refused bytes.
			d.client.distrust(u, err)
			return d.damage()
		}
		if err != nil {
			// Two upstreams that each send the same half of a block are no progress.
			return d.client.withProgress(err, d.most-before)
		}
	}
}

// damage returns an error about the wrong blocks of the current upstream, nil if there are none.
func (d *download) damage() error {
	wrong := d.wrong[d.source.u]
	switch blocks := slices.Sorted(maps.Keys(wrong)); len(blocks) {
	case 0:
		return nil
	case 1:
		return wrong[blocks[0]]
	default:
		return fmt.Errorf("%w; %d more blocks are wrong", wrong[blocks[0]], len(blocks)-1)
	}
}

// run returns the first run of missing blocks that the upstream does not have wrong, and counts the bytes that are
// there.
func (d *download) run() (first, count int) {
	missing := d.sink.Missing()
	d.done = d.rel.Length()
	for _, i := range missing {
		d.done -= update.BlockLength(d.rel.Length(), i)
	}
	missing = slices.DeleteFunc(slices.Clone(missing), func(i int) bool { return d.wrong[d.source.u][i] != nil })
	if len(missing) == 0 {
		return 0, 0
	}
	first = missing[0]
	for count < len(missing) && missing[count] == first+count {
		count++
	}
	if d.block != first {
		d.block, d.filled = first, 0
	}
	d.done += int64(d.filled)
	d.most = max(d.most, d.done)
	return first, count
}

// bring brings blocks first to below first+count, which are missing.
func (d *download) bring(ctx context.Context, first, count int) error {
	from := int64(first)*update.BlockSize + int64(d.filled)
	to := min(int64(first+count)*update.BlockSize, d.rel.Length())
	p, err := d.source.open(ctx, from, to)
	if err != nil {
		return err
	}
	defer p.Body.Close()
	if skipped, err := p.skip(from - p.from); err != nil {
		return p.u.cut(ctx, p.file, err, p.to-p.from, skipped)
	}
	if err := d.take(ctx, p, from, min(to, p.to)); err != nil {
		return err
	}
	if p.to > to {
		return nil // the rest is there already, or comes later
	}
	return p.over()
}

// take takes bytes from up to below to out of a piece.
func (d *download) take(ctx context.Context, p *piece, from, to int64) error {
	for from < to {
		length := update.BlockLength(d.rel.Length(), d.block)
		stop := min(length, int64(d.filled)+to-from)
		n, err := p.fill(d.buf[d.filled:stop], d.progress)
		d.filled += n
		from += int64(n)
		if err != nil {
			return p.u.cut(ctx, p.file, err, p.to-p.from, from-p.from)
		}
		if int64(d.filled) == length {
			if err := d.write(p, d.buf[:length]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *download) progress(n int) {
	d.done += int64(n)
	d.most = max(d.most, d.done)
	d.client.c.Progress(d.rel, d.done)
}

// write passes the block in flight to the sink, which verifies it. After a refusal the digest is computed here to
// tell a wrong block from an error of the sink. A wrong block is recorded; only the maxWrong-th is an error.
func (d *download) write(p *piece, b []byte) error {
	i := d.block
	d.block, d.filled = i+1, 0
	err := d.sink.WriteBlock(i, b)
	if err == nil {
		return d.spend(int64(len(b)))
	}
	if got, want := update.Sum(b), d.blocks[i]; got != want {
		d.source.etag = ""
		d.done -= int64(len(b))
		wrong := d.wrong[p.u]
		if wrong == nil {
			wrong = map[int]error{}
			d.wrong[p.u] = wrong
		}
		wrong[i] = d.source.damagedf(p.file, "block %d: expected digest %v, got %v", i, want, got)
		if len(wrong) == maxWrong {
			return d.damage()
		}
		return nil
	}
	return &local{err}
}

// spend counts a block in the budget.
func (d *download) spend(bytes int64) error {
	if d.budget == nil {
		return nil
	}
	err := d.budget.Spend(bytes, d.rel.Length()-LengthOf(d.rel, d.sink.Missing()))
	if err == nil {
		err = d.allowNext()
	}
	if err != nil {
		return &local{err}
	}
	return nil
}
