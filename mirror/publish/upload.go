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

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/store/origin"
	"github.com/openpowerquality/box-update-server/update"
)

// parallel is how many blocks are on their way at a time.
const parallel = 4

// upload is one publish.
type upload struct {
	remote   *Remote
	patience *patience
	files    Files
	taken    atomic.Int64 // blocks that the origin took

	mu sync.Mutex // held while progress is told
}

// parcel is an archive that has to be sent.
type parcel struct {
	rel     trust.Release
	blocks  update.Blocks
	file    *os.File
	listed  bool // the origin has the block list
	missing []origin.Range
	done    int64 // bytes that the origin has; guarded by upload.mu
}

// piece is a block that has to be sent.
type piece struct {
	*parcel
	block int
}

// send brings what an outcome says is missing.
func (u *upload) send(ctx context.Context, o origin.Outcome, list []trust.Release) (err error) {
	parcels, err := u.pack(o.Archives, list)
	if err != nil {
		return err
	}
	defer func() {
		for _, p := range parcels {
			err = errors.Join(err, p.file.Close())
		}
	}()
	pieces := make(chan piece)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(pieces)
		return u.hand(ctx, o.ID, parcels, pieces)
	})
	for range parallel {
		g.Go(func() error {
			buf := make([]byte, update.BlockSize)
			for p := range pieces {
				if err := u.sendBlock(ctx, o.ID, p, buf); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// pack opens the files of the archives that have to be sent, before the first byte is.
func (u *upload) pack(as []origin.Archive, list []trust.Release) (out []*parcel, err error) {
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
		out = append(out, p)
	}
	if len(absent) > 0 {
		return out, fmt.Errorf("%s: %w", strings.Join(absent, ", "), ErrNoFile)
	}
	return out, nil
}

// open refuses, with ErrChanged, a file that is not the archive as far as is known without reading it.
func (f File) open(rel trust.Release) (*parcel, error) {
	if got := update.Sum(f.Blocks.Bytes()); got != rel.Blocks() {
		return nil, fmt.Errorf("%s: %w: its block list has digest %v, and %v was signed", f.Path, ErrChanged, got, rel.Blocks())
	}
	file, err := os.Open(f.Path)
	if err != nil {
		return nil, err
	}
	return &parcel{rel: rel, blocks: f.Blocks, file: file}, nil
}

// hand hands out the blocks that have to be sent, each archive's after its block list.
func (u *upload) hand(ctx context.Context, id update.Digest, parcels []*parcel, pieces chan<- piece) error {
	for _, p := range parcels {
		u.tell(p, 0)
		if !p.listed {
			if err := u.sendBlocks(ctx, id, p); err != nil {
				return err
			}
		}
		for _, m := range p.missing {
			for i := m[0]; i < m[1]; i++ {
				select {
				case pieces <- piece{p, i}:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
		}
	}
	return nil
}

// tell says that so many more bytes of an archive are there.
func (u *upload) tell(p *parcel, more int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	p.done += more
	u.remote.progress(Progress{p.rel.Name(), p.done, p.rel.Length()})
}

func (u *upload) sendBlocks(ctx context.Context, id update.Digest, p *parcel) error {
	return u.put(ctx, request{path: []string{statePath, id.String(), p.rel.Digest().String() + blocksSuffix}, body: p.blocks.Bytes()}, nil)
}

// sendBlock reads a block from its file and sends it. The origin verifies it. buf has room for a block.
func (u *upload) sendBlock(ctx context.Context, id update.Digest, p piece, buf []byte) error {
	length := update.BlockLength(p.rel.Length(), p.block)
	data := buf[:length]
	changed := fmt.Errorf("%s: block %d: %w", p.file.Name(), p.block, ErrChanged)
	if n, err := p.file.ReadAt(data, int64(p.block)*update.BlockSize); n < len(data) {
		if errors.Is(err, io.EOF) {
			return changed
		}
		return err
	}
	q := request{path: []string{statePath, id.String(), p.rel.Digest().String(), strconv.Itoa(p.block)}, body: data, expect: true}
	err := u.put(ctx, q, func() (bool, error) { return u.arrived(ctx, id, p) })
	if errors.Is(err, store.ErrCorrupt) && update.Sum(data) != p.blocks[p.block] {
		return changed
	}
	if err != nil {
		return err
	}
	u.taken.Add(1)
	u.tell(p.parcel, length)
	return nil
}

// maxDamage is how often a body may be damaged on its way.
const maxDamage = 3

// put sends a body until the origin has it. arrived, where not nil, is asked after a cut whether it is
// there already.
func (u *upload) put(ctx context.Context, q request, arrived func() (bool, error)) error {
	q.method = http.MethodPut
	cut, damage := false, 0
	return u.remote.retry(ctx, u.patience, func() error {
		if cut && arrived != nil {
			if there, err := arrived(); there || err != nil {
				return err
			}
		}
		for {
			_, _, err := u.remote.exchange(ctx, q, maxIgnored)
			cut = unknown(err)
			if !errors.Is(err, store.ErrCorrupt) {
				return err
			}
			// It may have been right when it was sent.
			if damage++; damage >= maxDamage {
				return err
			}
		}
	})
}

// unknown reports whether a request that failed may have been carried out.
func unknown(err error) bool {
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	return e.Status == 0 || e.Status == http.StatusBadGateway || e.Status == http.StatusGatewayTimeout
}

// arrived asks the origin whether it has a block.
func (u *upload) arrived(ctx context.Context, id update.Digest, p piece) (bool, error) {
	q := request{method: http.MethodGet, path: []string{statePath, id.String(), p.rel.Digest().String()}}
	there := true
	err := u.remote.ask(ctx, q, func(raw []byte) error {
		a, err := parseArchive(raw, p.rel.Length())
		for _, m := range a.Missing {
			there = there && (p.block < m[0] || m[1] <= p.block)
		}
		return err
	})
	return err == nil && there, err
}
