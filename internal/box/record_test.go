package box

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestOrderOfMirrors: a box asks in an order of its own, keeps it, and the fleet spreads over all.
func TestOrderOfMirrors(t *testing.T) {
	urls := []string{"http://a", "http://b", "http://c", "http://d"}
	random := rand.New(rand.NewPCG(1, 2))
	first := map[string]int{}
	const boxes = 4000
	for range boxes {
		var r record
		r.arrangeMirrors(urls, random.Float64)
		before := fmt.Sprint(r.Mirrors)
		r.arrangeMirrors([]string{urls[3], urls[2], urls[1], urls[0]}, random.Float64)
		if after := fmt.Sprint(r.Mirrors); after != before {
			t.Fatalf("%s became %s", before, after)
		}
		first[r.Mirrors[0].URL]++
		r.Mirrors[1].Behind = true
		second := r.Mirrors[1]
		r.arrangeMirrors(append(slices.Clone(urls), "http://e"), random.Float64)
		r.arrangeMirrors(urls, random.Float64)
		if after := fmt.Sprint(r.Mirrors); len(r.Mirrors) != len(urls) || r.Mirrors[1] != second {
			t.Fatalf("%s became %s", before, after)
		}
	}
	for _, u := range urls {
		if share := float64(first[u]) / boxes; math.Abs(share-0.25) > 0.03 {
			t.Errorf("%s is asked first by %.1f%% of the boxes, expected 25%%", u, 100*share)
		}
	}
}

func TestMachineID(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "machine-id")
	id := func(r *record, configured string) string {
		t.Helper()
		got, err := r.machineID(configured, file)
		check(t, err)
		return got
	}
	var r record
	made := id(&r, "")
	if len(made) != 32 || r.Machine != made || id(&r, "") != made {
		t.Errorf("made %q, kept %q", made, r.Machine)
	}
	if other := (record{}); id(&other, "") == made {
		t.Error("two boxes got one id")
	}
	for _, bad := range []string{"", "uninitialized\n", strings.Repeat("g", 32), strings.Repeat("a", 31), strings.Repeat("a", 33), strings.Repeat("a", 34)} {
		check(t, os.WriteFile(file, []byte(bad), 0o644))
		if got := id(&r, ""); got != made {
			t.Errorf("%q gave %q", bad, got)
		}
	}
	system := strings.Repeat("a1", 16)
	check(t, os.WriteFile(file, []byte(system+"\n"), 0o644))
	if got := id(&r, ""); got != system {
		t.Errorf("got %q, want that of the system", got)
	}
	if got := id(&r, "mine"); got != "mine" {
		t.Errorf("got %q, want the configured one", got)
	}
}

// FuzzRecord: what is accepted is written and read as the same.
func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"machine_id":"00","mirrors":[{"url":"http://a","behind":true,"until":"2026-03-01T12:00:00Z","reason":"503"}],"checked":"2026-03-01T12:00:00Z","error":"e","day":"2026-03-01","bytes":7}`))
	f.Add([]byte(`{"mirrors":null}`))
	f.Add([]byte(`{"bytes":-1}`))
	f.Add([]byte(`{}{}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := parseRecord(raw)
		if err != nil {
			return
		}
		b, err := r.raw()
		if err != nil {
			return // a time that JSON can't write
		}
		again, err := parseRecord(b)
		check(t, err)
		if twice, err := again.raw(); err != nil || !bytes.Equal(twice, b) {
			t.Fatalf("%s became %s, %v", b, twice, err)
		}
		r.arrangeMirrors([]string{"http://a", "http://b"}, func() float64 { return 0.5 })
		if len(r.Mirrors) < 2 {
			t.Fatalf("mirrors %+v", r.Mirrors)
		}
	})
}
