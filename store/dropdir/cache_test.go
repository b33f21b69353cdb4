package dropdir

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/update"
)

// sample is a state with one file of each kind that a cache holds.
func sample(tb testing.TB) map[update.Name]*entry {
	tb.Helper()
	two := update.Blocks{update.Sum([]byte("1")), update.Sum([]byte("2"))}
	return map[update.Name]*entry{
		mustName(tb, "opq-box-update-1.tar.bz2"): {known: record{stamp: disk.Stamp{Inode: 300, Size: 5, Modified: -1, Changed: 1 << 62}}},
		mustName(tb, "opq-box-update-2.tar.bz2"): {replaced: true, known: record{
			stamp: disk.Stamp{Inode: 1 << 63, Size: update.BlockSize + 1, Modified: 1}, digest: update.Sum([]byte("12")), blocks: two}},
		mustName(tb, "opq-box-update-2.tar.zst"): {known: record{
			stamp: disk.Stamp{Inode: 7, Modified: 5, Changed: 6}, digest: update.Sum(nil), blocks: update.Blocks{}, checked: true}},
		mustName(tb, "other-3.tar.gz"): {known: record{
			stamp: disk.Stamp{Inode: 7, Modified: 5, Changed: 6}, digest: update.Sum(nil), blocks: update.Blocks{}, checked: true,
			problems: []string{"no install_update.sh <&>", "…"}}},
	}
}

// wantEntries compares what a cache gave with what was written.
func wantEntries(t *testing.T, got, want map[update.Name]*entry) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d entries, want %d", len(got), len(want))
	}
	for n, w := range want {
		e := got[n]
		if e == nil || e.replaced != w.replaced || e.known.stamp != w.known.stamp || e.known.digest != w.known.digest ||
			!slices.Equal(e.known.blocks, w.known.blocks) || e.known.checked != w.known.checked || !slices.Equal(e.known.problems, w.known.problems) {
			t.Errorf("%v: %+v, want %+v", n, e, w)
		}
	}
}

func TestCacheRoundTrip(t *testing.T) {
	entries := sample(t)
	never := mustName(t, "opq-box-update-9.tar.gz")
	entries[never] = &entry{state: waiting, seen: disk.Stamp{Inode: 1, Size: 1}}
	b := encodeCache(entries)
	got, err := parseCache(b)
	if err != nil {
		t.Fatal(err)
	}
	delete(entries, never)
	wantEntries(t, got, entries)
	if again := encodeCache(got); !bytes.Equal(again, b) {
		t.Errorf("encoded again: %q, want %q", again, b)
	}
}

func TestCorruptCacheIsRefused(t *testing.T) {
	b := encodeCache(sample(t))
	for i := range b {
		changed := bytes.Clone(b)
		changed[i] ^= 1
		if _, err := parseCache(changed); !errors.Is(err, errCorrupt) {
			t.Errorf("byte %d changed: %v", i, err)
		}
		if _, err := parseCache(b[:i]); !errors.Is(err, errCorrupt) {
			t.Errorf("cut to %d bytes: %v", i, err)
		}
	}
}

// sealed returns a cache of these files with a checksum that fits, whatever they are.
func sealed(tb testing.TB, files string) []byte {
	tb.Helper()
	var list bytes.Buffer
	if err := json.Compact(&list, []byte(files)); err != nil {
		tb.Fatal(err)
	}
	return []byte(`{"format":2,"sha256":"` + update.Sum(list.Bytes()).String() + `","files":` + list.String() + "}\n")
}

func TestCacheHasOneSpelling(t *testing.T) {
	d := update.Sum([]byte("x")).String()
	block := `"blocks":"` + strings.Repeat("A", 43) + `="`
	file := func(size, rest string) string {
		return `{"name":"opq-box-update-2.tar.bz2","inode":7,"size":` + size + `,"mtime":1,"ctime":1` + rest + `}`
	}
	good := file("1", `,"digest":"`+d+`",`+block+`,"problems":["x"]`)
	if _, err := parseCache(sealed(t, "["+good+"]")); err != nil {
		t.Fatal(err)
	}
	for what, files := range map[string]string{
		"number not minimal":   file("1.0", ""),
		"unknown field":        file("1", `,"other":1`),
		"checked, not hashed":  file("1", `,"problems":[]`),
		"zero digest":          file("1", `,"digest":"`+strings.Repeat("0", 64)+`",`+block),
		"size out of bounds":   file("1099511627777", ""),
		"negative size":        file("-1", ""),
		"a name twice":         good + "," + good,
		"another order":        good + "," + strings.Replace(good, "update-2", "update-1", 1),
		"no name":              strings.Replace(good, "opq-box-update-2.tar.bz2", "abc", 1),
		"too many problems":    file("1", `,"digest":"`+d+`",`+block+`,"problems":["x"`+strings.Repeat(`,"x"`, maxProblems)+`]`),
		"problem too long":     file("1", `,"digest":"`+d+`",`+block+`,"problems":["`+strings.Repeat("x", maxText+1)+`"]`),
		"block list missing":   file("1", `,"digest":"`+d+`"`),
		"a block more":         file("0", `,"digest":"`+d+`",`+block),
		"blocks, not hashed":   file("1", ","+block),
		"name missing":         `{"inode":7,"size":1,"mtime":1,"ctime":1}`,
		"no inode and no time": `{"name":"opq-box-update-2.tar.bz2","inode":0,"size":0,"mtime":0,"ctime":0}`,
	} {
		t.Run(what, func(t *testing.T) {
			if _, err := parseCache(sealed(t, "["+files+"]")); !errors.Is(err, errCorrupt) {
				t.Errorf("got %v", err)
			}
		})
	}
	for what, b := range map[string][]byte{
		"another format":       bytes.Replace(sealed(t, "["+good+"]"), []byte(`"format":2`), []byte(`"format":3`), 1),
		"something at the end": append(sealed(t, "["+good+"]"), ' '),
		"white space":          bytes.Replace(sealed(t, "["+good+"]"), []byte(`"files":`), []byte(`"files": `), 1),
		"no list":              sealed(t, "null"),
		"two lists":            sealCache([]byte("[" + good + "],[]")),
	} {
		if _, err := parseCache(b); !errors.Is(err, errCorrupt) {
			t.Errorf("%s: got %v", what, err)
		}
	}
}

// FuzzParseCache gives the parser files with a right checksum: it must not panic and must accept only
// what encodeCache writes.
func FuzzParseCache(f *testing.F) {
	var c struct{ Files json.RawMessage }
	if err := json.Unmarshal(encodeCache(sample(f)), &c); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(c.Files))
	f.Add([]byte("[]"))
	f.Add([]byte(`[{"name":"opq-box-update-2.tar.bz2","inode":7,"size":1,"mtime":1,"ctime":1}]`))
	f.Fuzz(func(t *testing.T, files []byte) {
		if !json.Valid(files) {
			return
		}
		b := sealed(t, string(files))
		entries, err := parseCache(b)
		if err != nil {
			if !errors.Is(err, errCorrupt) {
				t.Errorf("error %v is not errCorrupt", err)
			}
			return
		}
		if again := encodeCache(entries); !bytes.Equal(again, b) {
			t.Errorf("accepted %q, written as %q", b, again)
		}
	})
}

// oldCache returns the cache that the versions before write.
func oldCache(entries map[update.Name]*entry) []byte {
	text := func(b []byte, s string) []byte { return append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	b := []byte("box-update-server digest cache 1\n")
	for _, n := range slices.SortedFunc(maps.Keys(entries), update.Name.CompareByVersion) {
		k := entries[n].known
		b = text(b, n.String())
		b = binary.AppendUvarint(b, k.stamp.Inode)
		b = binary.AppendUvarint(b, uint64(k.stamp.Size))
		b = binary.AppendVarint(b, k.stamp.Modified)
		b = binary.AppendVarint(b, k.stamp.Changed)
		flags := byte(0)
		if entries[n].replaced {
			flags |= 1
		}
		if !k.digest.IsZero() {
			flags |= 2
		}
		if k.checked {
			flags |= 4
		}
		b = append(b, flags)
		if !k.digest.IsZero() {
			b = append(append(b, k.digest[:]...), k.blocks.Bytes()...)
		}
		if k.checked {
			b = binary.AppendUvarint(b, uint64(len(k.problems)))
			for _, p := range k.problems {
				b = text(b, p)
			}
		}
	}
	return withSum(b)
}

func withSum(b []byte) []byte {
	sum := sha256.Sum256(b)
	return append(bytes.Clone(b), sum[:]...)
}

// TestOldCacheIsRead reads a cache that the version before wrote, and each that it could write.
func TestOldCacheIsRead(t *testing.T) {
	want := sample(t)
	want[mustName(t, "other-3.tar.gz")].known.problems[0] = "no install_update.sh" // as it was then
	fixture := read(t, filepath.Join("testdata", oldCacheFile))
	got, err := parseOldCache(fixture)
	if err != nil {
		t.Fatal(err)
	}
	wantEntries(t, got, want)
	if again := oldCache(want); !bytes.Equal(again, fixture) {
		t.Error("the tests write another format than the version before")
	}
	for i := range fixture {
		changed := bytes.Clone(fixture)
		changed[i] ^= 1
		if _, err := parseOldCache(changed); !errors.Is(err, errCorrupt) {
			t.Errorf("byte %d changed: %v", i, err)
		}
		if _, err := parseOldCache(fixture[:i]); !errors.Is(err, errCorrupt) {
			t.Errorf("cut to %d bytes: %v", i, err)
		}
	}
}

// TestOldCacheIsReplaced starts on the cache of the version before: nothing is hashed again, what was replaced is not
// forgotten, and the new cache takes its place.
func TestOldCacheIsReplaced(t *testing.T) {
	dir, cache := t.TempDir(), t.TempDir()
	one, gone := mustName(t, "opq-box-update-1.tar.gz"), mustName(t, "opq-box-update-2.tar.gz")
	drop(t, dir, one.String(), "one")
	info, err := os.Stat(filepath.Join(dir, one.String()))
	if err != nil {
		t.Fatal(err)
	}
	s, _ := stampOf(info)
	write(t, filepath.Join(cache, oldCacheFile), string(oldCache(map[update.Name]*entry{
		one:  {known: record{stamp: s, digest: update.Sum([]byte("one")), blocks: update.Blocks{update.Sum([]byte("one"))}}},
		gone: {replaced: true, known: record{stamp: disk.Stamp{Inode: 5, Size: 1}}},
	})))
	c := Config{Dir: dir, Cache: cache}
	for range 2 {
		d := mustOpen(t, c)
		if !has(d, one, "one") || d.Health().Pending != 0 || !d.Replaced(gone) || d.Replaced(one) {
			t.Errorf("%+v, health %+v", d.Catalog().Updates(), d.Health())
		}
		if err := d.saveCache(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(filepath.Join(cache, oldCacheFile)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the old cache: got error %v, want %v", err, os.ErrNotExist)
		}
	}
}

// FuzzParseOldCache gives the parser bodies with a right checksum: it must not panic, and what it accepts is a cache.
func FuzzParseOldCache(f *testing.F) {
	const magic = "box-update-server digest cache 1\n"
	b := oldCache(sample(f))
	f.Add(b[len(magic) : len(b)-sha256.Size])
	f.Add([]byte{})
	f.Add([]byte("\x18opq-box-update-2.tar.bz2\x07\x01\x02\x02\x00"))
	f.Add([]byte("\x18opq-box-update-2.tar.bz2\x07\x80\x80\x80\x80\x80\x20\x02\x02\x02"))
	f.Fuzz(func(t *testing.T, body []byte) {
		entries, err := parseOldCache(withSum(append([]byte(magic), body...)))
		if err != nil {
			if !errors.Is(err, errCorrupt) {
				t.Errorf("error %v is not errCorrupt", err)
			}
			return
		}
		if _, err := parseCache(encodeCache(entries)); err != nil {
			t.Errorf("accepted, and refused as a cache: %v", err)
		}
	})
}
