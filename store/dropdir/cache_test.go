package dropdir

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/openpowerquality/box-update-server/update"
)

// sample is a state with one file of each kind that a cache holds.
func sample(tb testing.TB) map[update.Name]*entry {
	tb.Helper()
	two := update.Blocks{update.Sum([]byte("1")), update.Sum([]byte("2"))}
	return map[update.Name]*entry{
		mustName(tb, "opq-box-update-1.tar.bz2"): {served: true, known: record{stamp: stamp{inode: 300, size: 5, mtime: -1, ctime: 1 << 62}}},
		mustName(tb, "opq-box-update-2.tar.bz2"): {served: true, replaced: true, known: record{
			stamp: stamp{inode: 1 << 63, size: update.BlockSize + 1, mtime: 1}, digest: update.Sum([]byte("12")), blocks: two}},
		mustName(tb, "opq-box-update-2.tar.zst"): {served: true, known: record{
			digest: update.Sum(nil), blocks: update.Blocks{}, checked: true}},
		mustName(tb, "other-3.tar.gz"): {served: true, known: record{
			digest: update.Sum(nil), blocks: update.Blocks{}, checked: true, problems: []string{"no install_update.sh", "…"}}},
	}
}

// seal adds the checksum to a cache.
func seal(b []byte) []byte {
	sum := sha256.Sum256(b)
	return append(bytes.Clone(b), sum[:]...)
}

func TestCacheRoundTrip(t *testing.T) {
	entries := sample(t)
	entries[mustName(t, "opq-box-update-9.tar.gz")] = &entry{} // never listed
	b := encodeCache(entries)
	got, err := parseCache(b)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(entries)-1 {
		t.Errorf("%d entries", len(got))
	}
	if again := encodeCache(got); !bytes.Equal(again, b) {
		t.Errorf("encoded again: %q, want %q", again, b)
	}
	for n, e := range got {
		want := entries[n]
		if e.replaced != want.replaced || e.known.stamp != want.known.stamp || e.known.digest != want.known.digest ||
			e.known.checked != want.known.checked || len(e.known.problems) != len(want.known.problems) {
			t.Errorf("%v: %+v, want %+v", n, e, want)
		}
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
	body := b[:len(b)-sha256.Size]
	for i := len(cacheMagic); i < len(body); i++ {
		got, err := parseCache(seal(body[:i]))
		if err == nil && len(encodeCache(got)) != i+sha256.Size {
			t.Errorf("cut to %d bytes and sealed: accepted as something else", i)
		}
	}
}

func TestCacheHasOneSpelling(t *testing.T) {
	name := "\x18opq-box-update-2.tar.bz2"
	digest := string(make([]byte, 31)) + "\x01"
	good := name + "\x07\x01\x02\x02" + "\x06" + digest + digest + "\x01\x01x"
	if _, err := parseCache(seal([]byte(cacheMagic + good))); err != nil {
		t.Fatal(err)
	}
	tests := map[string]string{
		"number not minimal":   name + "\x87\x00\x01\x02\x02" + "\x06" + digest + digest + "\x01\x01x",
		"unknown flag":         name + "\x07\x01\x02\x02" + "\x08",
		"checked, not hashed":  name + "\x07\x01\x02\x02" + "\x04\x00",
		"zero digest":          name + "\x07\x00\x02\x02" + "\x02" + string(make([]byte, 32)),
		"size out of bounds":   name + "\x07\x81\x80\x80\x80\x80\x80\x02\x02\x02\x00",
		"a name twice":         good + good,
		"no name":              "\x03abc\x07\x01\x02\x02\x00",
		"name too long":        "\xff\xff\xff\xff\x0f" + name,
		"too many problems":    name + "\x07\x01\x02\x02" + "\x06" + digest + digest + "\x21",
		"problem not UTF-8":    name + "\x07\x01\x02\x02" + "\x06" + digest + digest + "\x01\x01\xff",
		"block list missing":   name + "\x07\x80\x80\x80\x80\x80\x20\x02\x02" + "\x02" + digest,
		"something at the end": good + "\x00",
	}
	for what, body := range tests {
		t.Run(what, func(t *testing.T) {
			if _, err := parseCache(seal([]byte(cacheMagic + body))); !errors.Is(err, errCorrupt) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// FuzzParseCache gives the parser bodies with a right checksum: it must not panic and must accept only
// what encodeCache writes.
func FuzzParseCache(f *testing.F) {
	b := encodeCache(sample(f))
	f.Add(b[len(cacheMagic) : len(b)-sha256.Size])
	f.Add([]byte{})
	f.Add([]byte("\x18opq-box-update-2.tar.bz2\x07\x01\x02\x02\x00"))
	f.Add([]byte("\x18opq-box-update-2.tar.bz2\x07\x80\x80\x80\x80\x80\x20\x02\x02\x02"))
	f.Fuzz(func(t *testing.T, body []byte) {
		b := seal(append([]byte(cacheMagic), body...))
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
