package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/openpowerquality/box-update-server/origin"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

// upload is one publish.
type upload struct {
	remote   *Remote
	patience *patience
	files    Files
	accepted atomic.Int64 // blocks and parts of blocks that the origin accepted

	mu sync.Mutex // held while Config.Progress is called
}

// transfer is an archive to be sent.
type transfer struct {
	rel     trust.Release
	blocks  update.Blocks
	file    *os.File
	listed  bool // the origin has the block list
	missing []origin.Range
	begun   map[int]int64 // how much the origin has of a block; nil: it accepts only whole blocks
	done    int64         // bytes that the origin has; guarded by upload.mu
}

// block is a block to be sent.
type block struct {
	*transfer
	number int
}

// send sends what is missing according to an outcome.
func (u *upload) send(ctx context.Context, o origin.Outcome, list []trust.Release) (err error) {
	transfers, err := u.openAll(o.Archives, list)
	if err != nil {
		return err
	}
	defer func() {
		for _, p := range transfers {
			err = errors.Join(err, p.file.Close())
		}
	}()
	blocks := make(chan block)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(blocks)
		return u.sendLists(ctx, o.ID, transfers, blocks)
	})
	for range parallel {
		g.Go(func() error {
			buf := make([]byte, update.BlockSize)
			for b := range blocks {
				if err := u.sendBlock(ctx, o.ID, b, buf); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// openAll opens the files of all archives to be sent.
func (u *upload) openAll(as []origin.Archive, list []trust.Release) (out []*transfer, err error) {
	defer func() {
		if err != nil {
			for _, p := range out {
				err = errors.Join(err, p.file.Close())
			}
			out = nil
		}
	}()
	byDigest := map[update.Digest]trust.Release{}
	for _, r := range list {
		byDigest[r.Digest()] = r
	}
	var absent []string
	for _, a := range as {
		rel := byDigest[a.Digest]
		if a.Blocks && len(a.Missing) == 0 {
			continue
		}
		f, ok := u.files[a.Digest]
		if !ok {
			absent = append(absent, rel.Name().String())
			continue
		}
		p, err := f.open(rel)
		if err != nil {
			return out, err
		}
		p.listed, p.missing, p.done = a.Blocks, a.Missing, rel.Length()
		for _, m := range a.Missing {
			for i := m[0]; i < m[1]; i++ {
				p.done -= update.BlockLength(rel.Length(), i)
			}
		}
		if a.Begun != nil {
			p.begun = map[int]int64{}
		}
		for _, b := range a.Begun {
			p.begun[b.Block] = b.Have
			p.done += b.Have
		}
		out = append(out, p)
	}
	if len(absent) > 0 {
		return out, fmt.Errorf("%s: %w", strings.Join(absent, ", "), ErrNoFile)
	}
	return out, nil
}

// open opens a file. It refuses, with ErrChanged, one whose block list is not the signed one.
func (f File) open(rel trust.Release) (*transfer, error) {
	if got := update.Sum(f.Blocks.Bytes()); got != rel.Blocks() {
		return nil, fmt.Errorf("%s: %w: expected a block list with digest %v, got %v", f.Path, ErrChanged, rel.Blocks(), got)
	}
	file, err := os.Open(f.Path)
	if err != nil {
		return nil, err
	}
	return &transfer{rel: rel, blocks: f.Blocks, file: file}, nil
}

// sendLists sends each archive's block list, if the origin needs it, and then passes on its missing blocks.
func (u *upload) sendLists(ctx context.Context, id update.Digest, transfers []*transfer, blocks chan<- block) error {
	for _, p := range transfers {
		u.addProgress(p, 0)
		if !p.listed {
			if err := u.sendBlockList(ctx, id, p); err != nil {
				return err
			}
		}
		for _, m := range p.missing {
			for i := m[0]; i < m[1]; i++ {
				select {
				case blocks <- block{p, i}:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
		}
	}
	return nil
}

// addProgress adds bytes that the origin has of an archive; more is negative if it has lost some.
func (u *upload) addProgress(p *transfer, more int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	p.done += more
	u.remote.progress(Progress{p.rel.Name(), p.done, p.rel.Length()})
}

func (u *upload) sendBlockList(ctx context.Context, id update.Digest, p *transfer) error {
	q := request{method: http.MethodPut, path: []string{statePath, id.String(), p.rel.Digest().String() + blocksSuffix}, body: p.blocks.Bytes()}
	damaged := 0
	return u.remote.retry(ctx, u.patience, func() error {
		for {
			_, _, err := u.remote.exchange(ctx, q, maxIgnored)
			if !errors.Is(err, store.ErrCorrupt) {
				return err
			}
			// It may have been damaged in transit.
			if damaged++; damaged >= maxDamage {
				return err
			}
		}
	})
}

// maxDamage is how often a body may be damaged in transit.
const maxDamage = 3

// sendBlock reads a block from its file and sends it, in as many parts as the link needs. The origin verifies the whole
// block. buf has room for a block.
func (u *upload) sendBlock(ctx context.Context, id update.Digest, b block, buf []byte) error {
	length := update.BlockLength(b.rel.Length(), b.number)
	data := buf[:length]
	changed := fmt.Errorf("%s: block %d: %w", b.file.Name(), b.number, ErrChanged)
	if n, err := b.file.ReadAt(data, int64(b.number)*update.BlockSize); n < len(data) {
		if errors.Is(err, io.EOF) {
			return changed
		}
		return err
	}
	have, unsure, damaged := b.begun[b.number], false, 0
	step := func() error {
		if unsure {
			now, err := u.arrived(ctx, id, b)
			if err != nil {
				return err
			}
			u.addProgress(b.transfer, now-have)
			have, unsure = now, false
			if have == length {
				return nil
			}
		}
		n, err := u.sendPart(ctx, id, b, data, have)
		switch {
		case err == nil:
			u.accepted.Add(1)
			u.addProgress(b.transfer, n)
			have += n
			return nil
		case errors.Is(err, store.ErrCorrupt):
			if update.Sum(data) != b.blocks[b.number] {
				return changed
			}
			// It was damaged in transit, and the origin has dropped all of it.
			if damaged++; damaged >= maxDamage {
				return err
			}
			unsure = true
			return nil
		case errors.Is(err, origin.ErrGap):
			// The origin lost the parts before, because it was restarted or had too many of them.
			if damaged++; damaged >= maxDamage {
				return err
			}
			unsure = true
			return nil
		}
		unsure = mayHaveArrived(err)
		return err
	}
	for have < length {
		if err := u.remote.retry(ctx, u.patience, step); err != nil {
			return err
		}
	}
	return nil
}

// sendPart sends one piece of a block, from offset at on, and returns its length.
func (u *upload) sendPart(ctx context.Context, id update.Digest, b block, data []byte, at int64) (int64, error) {
	path := []string{statePath, id.String(), b.rel.Digest().String(), strconv.Itoa(b.number)}
	if b.begun == nil {
		_, _, err := u.remote.exchange(ctx, request{method: http.MethodPut, path: path, body: data, expect: true}, maxIgnored)
		return int64(len(data)), err
	}
	n, done, err := u.remote.link.begin(ctx, int64(len(data))-at)
	if err != nil {
		return 0, err
	}
	if n < int64(len(data)) {
		path = append(path, strconv.FormatInt(at, 10))
	}
	q := request{method: http.MethodPut, path: path, body: data[at : at+n], expect: true, wait: partTime}
	_, _, err = u.remote.exchange(ctx, q, maxIgnored)
	done(err == nil)
	return n, err
}

// mayHaveArrived reports whether the origin may have processed a request that failed.
func mayHaveArrived(err error) bool {
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	return e.Status == 0 || e.Status == http.StatusBadGateway || e.Status == http.StatusGatewayTimeout
}

// arrived asks the origin how much of a block it has, in bytes from its beginning.
func (u *upload) arrived(ctx context.Context, id update.Digest, b block) (have int64, err error) {
	q := request{method: http.MethodGet, path: []string{statePath, id.String(), b.rel.Digest().String()}}
	err = u.remote.ask(ctx, q, func(raw []byte) error {
		a, err := parseArchive(raw, b.rel.Length())
		if err != nil {
			return err
		}
		have = update.BlockLength(b.rel.Length(), b.number)
		for _, m := range a.Missing {
			if m[0] <= b.number && b.number < m[1] {
				have = 0
			}
		}
		for _, begun := range a.Begun {
			if begun.Block == b.number {
				have = begun.Have
			}
		}
		return nil
	})
	return have, err
}
