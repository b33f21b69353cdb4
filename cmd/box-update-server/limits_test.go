package main_test

import (
	"io"
	"testing"
	"time"
)

// Real downloads share the bandwidth, and the ones that are too many are told to come back.
func TestLimits(t *testing.T) {
	t.Parallel()
	const perSecond, size = 4 << 20, 6 << 20
	dir := t.TempDir()
	write(t, dir, newest, pattern(size))
	still(t, dir+"/"+newest)
	s := launch{settings: map[string]any{"updates_dir": dir, "max_downloads": 2, "max_bandwidth": perSecond}}.start(t)
	s.awaitHashed(t, newest)
	begun := time.Now()
	first, second := make(chan int64, 1), make(chan int64, 1)
	for _, done := range []chan int64{first, second} {
		_, r := download(t, s, "/update/"+newest)
		go func() {
			n, _ := io.Copy(io.Discard, r)
			done <- n
		}()
	}
	third := get(t, s.base+"/update/"+newest)
	if third.status != 503 || third.body != "Too many downloads at once." || third.header.Get("Retry-After") == "" {
		t.Errorf("got %d %q %v", third.status, third.body, third.header)
	}
	get(t, s.base+"/version").is(t, 200, "text/plain", "1550190683")
	if a, b := <-first, <-second; a != size || b != size {
		t.Errorf("got %d and %d bytes of %d", a, b, size)
	}
	least := time.Duration(float64(2*size-perSecond/4) / perSecond * float64(time.Second))
	if took := time.Since(begun); took < least*95/100 {
		t.Errorf("took %v, want at least %v", took, least)
	}
	s.await(t, "/update/"+newest, 200)
}
