package dropdir

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// fill makes count archives of a few bytes each that have been still for a day.
func fill(tb testing.TB, dir string, count int) {
	tb.Helper()
	old := time.Now().Add(-24 * time.Hour)
	for i := range count {
		path := filepath.Join(dir, fmt.Sprintf("opq-box-update-%d.tar.bz2", 1550000000+i))
		if err := os.WriteFile(path, fmt.Appendf(nil, "archive %d", i), 0o644); err != nil {
			tb.Fatal(err)
		}
		if err := os.Chtimes(path, old, old); err != nil {
			tb.Fatal(err)
		}
	}
}

// BenchmarkOpen measures the start with 10,000 archives, from nothing to the first catalog.
func BenchmarkOpen(b *testing.B) {
	const count = 10_000
	dir, cache := b.TempDir(), b.TempDir()
	fill(b, dir, count)
	open := func(b *testing.B, cache string, pending int) {
		for b.Loop() {
			d, err := Open(b.Context(), Config{Dir: dir, Cache: cache})
			if err != nil {
				b.Fatal(err)
			}
			if got := len(d.Catalog().Updates()); got != count || d.Health().Pending != pending {
				b.Fatalf("%d updates, %d pending", got, d.Health().Pending)
			}
		}
	}
	b.Run("cold", func(b *testing.B) { open(b, "", count) })
	b.Run("hash", func(b *testing.B) {
		for b.Loop() {
			d, err := Open(b.Context(), Config{Dir: dir, Cache: cache})
			if err != nil {
				b.Fatal(err)
			}
			runUntil(b, d, func() bool { return d.Health().Pending == 0 })
			b.StopTimer()
			if err := os.Remove(filepath.Join(cache, cacheFile)); err != nil && b.N > 1 {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	})
	d, err := Open(b.Context(), Config{Dir: dir, Cache: cache})
	if err != nil {
		b.Fatal(err)
	}
	runUntil(b, d, func() bool { return d.Health().Pending == 0 })
	b.Run("warm", func(b *testing.B) { open(b, cache, 0) })
}

// BenchmarkHash measures the digest and block list of a large file on one core.
func BenchmarkHash(b *testing.B) {
	const size = 256 << 20
	dir := b.TempDir()
	path := filepath.Join(dir, "opq-box-update-1.tar.bz2")
	if err := os.WriteFile(path, make([]byte, size), 0o644); err != nil {
		b.Fatal(err)
	}
	d, err := Open(b.Context(), Config{Dir: dir, Still: time.Nanosecond})
	if err != nil {
		b.Fatal(err)
	}
	u, _ := d.Catalog().Newest(time.Now())
	b.SetBytes(size)
	for b.Loop() {
		if r := d.hash(b.Context(), task{name: u.Name, stamp: d.state.entries[u.Name].seen}); r.err != nil {
			b.Fatal(r.err)
		}
	}
}

// runUntil runs d until a condition holds, and waits for its end.
func runUntil(tb testing.TB, d *Dir, done func() bool) {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	eventually(tb, done)
	cancel()
	if err := <-ended; err != nil {
		tb.Errorf("Run: %v", err)
	}
}

// eventually waits for what the kernel or a running Dir is about to do, until the deadline of the test.
func eventually(tb testing.TB, done func() bool) {
	tb.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		<-tick.C
	}
}
