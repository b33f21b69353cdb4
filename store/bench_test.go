package store

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// full returns a directory whose repository lists as many updates as a list holds, less one.
func full(b *testing.B) (*origin, Config) {
	b.Helper()
	o := newOrigin(b)
	c := o.config(filepath.Join(testworld.TempDir(b), "R"))
	s, err := Open(b.Context(), c)
	if err != nil {
		b.Fatal(err)
	}
	names := make([]string, trust.MaxUpdates-1)
	for i := range names {
		names[i] = fmt.Sprintf("opq-box-update-%d.tar.bz2", 1550000000+i)
	}
	if err := publish(s, o.lists(names...)); err != nil {
		b.Fatal(err)
	}
	mustClose(b, s)
	return o, c
}

// BenchmarkOpen is the start of a server whose list is full.
func BenchmarkOpen(b *testing.B) {
	_, c := full(b)
	for b.Loop() {
		s, err := Open(b.Context(), c)
		if err != nil {
			b.Fatal(err)
		}
		if n := len(s.Catalog().Updates()); n != trust.MaxUpdates-1 {
			b.Fatalf("%d updates", n)
		}
		mustClose(b, s)
	}
}

// BenchmarkCommit is the renewal of a full list by an origin.
func BenchmarkCommit(b *testing.B) {
	o, c := full(b)
	s, err := Open(b.Context(), c)
	if err != nil {
		b.Fatal(err)
	}
	defer mustClose(b, s)
	for b.Loop() {
		b.StopTimer()
		next := o.next(trust.Change{})
		b.StartTimer()
		if err := s.Commit(b.Context(), next); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkIngest brings one large archive from memory to the disk of the temporary directory, with its
// blocks in order and with each pair of them exchanged.
func BenchmarkIngest(b *testing.B) {
	const size = 256 << 20
	data := make([]byte, size)
	for i := 0; i < size; i += update.BlockSize {
		data[i] = byte(i/update.BlockSize + 1)
	}
	digest, blocks := blocksOf(data)
	o := newOrigin(b)
	const name = "opq-box-update-9.tar.gz"
	p := o.propose(func(a *trust.Addition) {
		a.Digest, a.Length, a.Blocks = digest, size, update.Sum(blocks.Bytes())
	}, name)
	rel := release(b, o.next(trust.Change{Targets: p}), name)
	s, err := Open(b.Context(), o.config(filepath.Join(b.TempDir(), "R")))
	if err != nil {
		b.Fatal(err)
	}
	defer mustClose(b, s)
	for order, swap := range map[string]int{"in order": 0, "out of order": 1} {
		b.Run(order, func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				in, err := s.Ingest(b.Context(), rel, blocks)
				if err != nil {
					b.Fatal(err)
				}
				for i := range blocks {
					if err := in.WriteBlock(i^swap, blockOf(data, i^swap)); err != nil {
						b.Fatal(err)
					}
				}
				if err := in.Commit(b.Context()); err != nil {
					b.Fatal(err)
				}
				mustClose(b, in)
				if err := os.Remove(s.blobPath(digest)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("copy and sync", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			if err := copySynced(filepath.Join(b.TempDir(), "copy"), data); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// copySynced is what the disk alone takes for it.
func copySynced(path string, data []byte) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.ReadFrom(bytes.NewReader(data)); err != nil {
		return err
	}
	return f.Sync()
}
