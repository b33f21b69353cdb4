package origin_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/origin"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// full returns a world that lists 100 updates less than it may.
func full(b *testing.B) *world {
	w := newWorld(b)
	var names []string
	for i := range trust.MaxUpdates - 100 {
		names = append(names, fmt.Sprintf("opq-box-update-%d.tar.gz", 1000+i))
	}
	w.publish(names...)
	return w
}

// BenchmarkOneMore publishes one more small update where 1,900 and more are listed.
func BenchmarkOneMore(b *testing.B) {
	w := full(b)
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		e := w.edit()
		e.Keep(trust.MaxUpdates - 100)
		n := fmt.Sprintf("opq-box-update-%d.tar.gz", 1000000+i)
		must(b, e.Add(addition(n, content(n))))
		p, err := e.Sign(b.Context(), w.releases[0])
		must(b, err)
		b.StartTimer()
		out := w.send(p, origin.StatusStaged)
		must(b, w.upload(out))
		_, err = w.Commit(b.Context(), out.ID)
		must(b, err)
	}
}

// BenchmarkOpen starts store and origin where 1,900 updates are listed and one list is staged.
func BenchmarkOpen(b *testing.B) {
	w := full(b)
	w.send(w.list(w.releases, one), origin.StatusStaged)
	w.close()
	for b.Loop() {
		w.open()
		b.StopTimer()
		w.close()
		b.StartTimer()
	}
}

// BenchmarkUpload brings an archive of 256 MiB, block by block, and commits it.
func BenchmarkUpload(b *testing.B) {
	const blocks = 64
	w := newWorld(b)
	data := make([]byte, blocks*update.BlockSize)
	b.SetBytes(int64(len(data)))
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		for k := range blocks {
			copy(data[k*update.BlockSize:], fmt.Sprint(i, k, time.Now().UnixNano()))
		}
		e := w.edit()
		must(b, e.Add(addition(fmt.Sprintf("opq-box-update-%d.tar.gz", 1+i), data)))
		p, err := e.Sign(b.Context(), w.releases[0])
		must(b, err)
		list, d := testworld.Blocks(data).Bytes(), update.Sum(data)
		b.StartTimer()
		out := w.send(p, origin.StatusStaged)
		must(b, w.PutBlocks(b.Context(), out.ID, d, list))
		for k := range blocks {
			must(b, w.PutBlock(b.Context(), out.ID, d, k, block(data, k)))
		}
		_, err = w.Commit(b.Context(), out.ID)
		must(b, err)
	}
}
