package origin_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/origin"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

// stagedBig stages a list with one archive of several blocks, whose block list is there.
func (w *world) stagedBig() (out origin.Outcome, d update.Digest, data []byte) {
	w.t.Helper()
	out = w.send(w.list(w.releases, big), origin.StatusStaged)
	data = content(big)
	var h update.Hasher
	h.Write(data)
	d, blocks, _ := h.Result()
	must(w.t, w.PutBlocks(w.t.Context(), out.ID, d, blocks.Bytes()))
	return out, d, data
}

func (w *world) wantBegun(id, d update.Digest, want ...origin.Begun) {
	w.t.Helper()
	a, err := w.Archive(w.t.Context(), id, d)
	must(w.t, err)
	if a.Begun == nil || fmt.Sprint(a.Begun) != fmt.Sprint(append([]origin.Begun{}, want...)) {
		w.t.Fatalf("expected %v to have begun, got %#v", want, a.Begun)
	}
}

// A block arrives in parts, some of them twice; it counts when it is whole.
func TestParts(t *testing.T) {
	w := newWorld(t)
	out, d, data := w.stagedBig()
	one := block(data, 1)
	put := func(at, end int) error { return w.PutPart(t.Context(), out.ID, d, 1, int64(at), one[at:end]) }
	w.wantBegun(out.ID, d)
	wantErr(t, put(10, 20), origin.ErrGap)
	must(t, put(0, 0)) // asks only
	w.wantBegun(out.ID, d)
	must(t, put(0, 1000))
	must(t, put(0, 500))
	must(t, put(900, 2000))
	w.wantBegun(out.ID, d, origin.Begun{Block: 1, Have: 2000})
	wantErr(t, put(2001, 3000), origin.ErrGap)
	must(t, put(2000, len(one)))
	w.wantBegun(out.ID, d)
	must(t, put(1000, 2000)) // it is there: another caller was faster
	a, err := w.Archive(t.Context(), out.ID, d)
	must(t, err)
	for _, m := range a.Missing {
		if m[0] <= 1 && 1 < m[1] {
			t.Fatalf("block 1 is missing: %v", a.Missing)
		}
	}
	must(t, w.upload(w.send(w.list(w.releases, big), origin.StatusStaged)))
	w.finish(out)
	w.wantListed(big)
}

func TestPartsAreBounded(t *testing.T) {
	w := newWorld(t)
	out, d, data := w.stagedBig()
	for _, c := range []struct {
		at   int64
		part []byte
	}{{-1, data[:1]}, {update.BlockSize, data[:1]}, {update.BlockSize + 1, nil}, {1, data[:update.BlockSize]}} {
		wantErr(t, w.PutPart(t.Context(), out.ID, d, 0, c.at, c.part), origin.ErrNotFound)
	}
	wantErr(t, w.PutPart(t.Context(), out.ID, d, 99, 0, data[:1]), origin.ErrNotFound)
	wantErr(t, w.PutPart(t.Context(), d, d, 0, 0, data[:1]), origin.ErrNotFound)
	w.wantBegun(out.ID, d)
}

// A damaged part costs its block, and nothing of it reaches the disk.
func TestDamagedPart(t *testing.T) {
	w := newWorld(t)
	out, d, data := w.stagedBig()
	first := bytes.Clone(block(data, 0))
	first[7]++
	must(t, w.PutPart(t.Context(), out.ID, d, 0, 0, first[:1000]))
	wantErr(t, w.PutPart(t.Context(), out.ID, d, 0, 1000, first[1000:]), store.ErrCorrupt)
	w.wantBegun(out.ID, d)
	must(t, w.upload(out))
	w.finish(out)
	w.wantListed(big)
}

// Only so many blocks are begun at a time, and none is kept for ever.
func TestPartsGiveWay(t *testing.T) {
	w := newWorld(t)
	names := []string{big}
	for i := range 4 {
		names = append(names, fmt.Sprintf("opq-box-update-%d.tar.gz", 20+i))
	}
	out := w.send(w.list(w.releases, names...), origin.StatusStaged)
	var digests []update.Digest
	for _, n := range names {
		data := content(n)
		var h update.Hasher
		h.Write(data)
		d, blocks, _ := h.Result()
		must(t, w.PutBlocks(t.Context(), out.ID, d, blocks.Bytes()))
		must(t, w.PutPart(t.Context(), out.ID, d, 0, 0, data[:1]))
		digests = append(digests, d)
	}
	w.wantBegun(out.ID, digests[0])
	for _, d := range digests[1:] {
		w.wantBegun(out.ID, d, origin.Begun{Block: 0, Have: 1})
	}
	w.at(w.now().Add(2 * time.Hour))
	must(t, w.PutPart(t.Context(), out.ID, digests[0], 0, 0, content(big)[:1]))
	w.wantBegun(out.ID, digests[0], origin.Begun{Block: 0, Have: 1})
	w.wantBegun(out.ID, digests[1])
	w.restart()
	w.wantBegun(out.ID, digests[0])
}
