package twosum

import (
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"hash"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// tester is what testing.T and rapid.T share.
type tester interface {
	Helper()
	Errorf(format string, args ...any)
}

// check feeds writes to two hashes that were fed before and after already, and compares both with
// crypto/sha256.
func check(t tester, before, after []byte, writes ...[]byte) {
	t.Helper()
	a, b := sha256.New(), sha256.New()
	wantA, wantB := sha256.New(), sha256.New()
	feed(before, a, wantA)
	feed(after, b, wantB)
	for _, p := range writes {
		Write(a, b, p)
		feed(p, wantA, wantB)
	}
	if got, want := sum(a), sum(wantA); got != want {
		t.Errorf("first hash of %d bytes is %s, want %s", len(before), got, want)
	}
	if got, want := sum(b), sum(wantB); got != want {
		t.Errorf("second hash of %d bytes is %s, want %s", len(after), got, want)
	}
}

func feed(p []byte, to ...hash.Hash) {
	for _, h := range to {
		h.Write(p)
	}
}

func sum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// pattern returns n bytes that do not repeat every 64.
func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i ^ i>>6*31)
	}
	return p
}

func TestFastPathIsTaken(t *testing.T) {
	p := pattern(1000)
	for _, c := range []struct {
		name        string
		a, b        hash.Hash
		fedA, fedB  int
		rest, short int // what is left of p where blocks2 exists, and where p is that short
	}{
		{"aligned", sha256.New(), sha256.New(), 0, 0, 1000 % 64, 127},
		{"within a chunk", sha256.New(), sha256.New(), 10, 64 + 10, (1000 - 54) % 64, 127},
		{"apart", sha256.New(), sha256.New(), 10, 11, 1000, 127},
		{"another hash", sha256.New224(), sha256.New(), 0, 0, 1000, 127},
		{"no binary form", struct{ hash.Hash }{sha256.New()}, sha256.New(), 0, 0, 1000, 127},
		{"no binary form of the second", sha256.New(), struct{ hash.Hash }{sha256.New()}, 0, 0, 1000, 127},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.a.Write(p[:c.fedA])
			c.b.Write(p[:c.fedB])
			if got := len(writeBoth(c.a, c.b, p[:c.short])); got != c.short {
				t.Errorf("of %d bytes %d are left, want all", c.short, got)
			}
			if !hasBlocks2 && c.rest < len(p) {
				t.Skip("this processor has no blocks2")
			}
			if got := len(writeBoth(c.a, c.b, p)); got != c.rest {
				t.Errorf("of %d bytes %d are left, want %d", len(p), got, c.rest)
			}
		})
	}
}

// FIPS 180-4 example messages, as published with the Secure Hash Standard, and a million times "a".
func TestVectors(t *testing.T) {
	for _, c := range []struct{ message, want string }{
		{"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
		{"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
		{"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
		{"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu", "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
		{strings.Repeat("a", 1e6), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
	} {
		a, b := sha256.New(), sha256.New()
		Write(a, b, []byte(c.message))
		if sum(a) != c.want || sum(b) != c.want {
			t.Errorf("hashes of %d bytes are %s and %s, want %s", len(c.message), sum(a), sum(b), c.want)
		}
	}
}

// Every length up to some chunks, at every alignment in memory, behind every fill of a chunk.
func TestLengthsAndAlignments(t *testing.T) {
	p := pattern(64 + 5*chunkSize)
	for n := range 5*chunkSize + 1 {
		at := n % 64
		check(t, nil, nil, p[at:at+n])
		check(t, p[:at], p[:chunkSize+at], p[:n], p[at:at+n])
	}
}

func TestWriteIsTwoHashes(t *testing.T) {
	data := pattern(1<<16 + chunkSize)
	rapid.Check(t, func(t *rapid.T) {
		length := rapid.IntRange(0, 1<<16)
		before := data[:length.Draw(t, "before")]
		after := data[:length.Draw(t, "after")]
		if rapid.Bool().Draw(t, "at the same place in a chunk") {
			after = data[:len(after)-len(after)%chunkSize+len(before)%chunkSize]
		}
		var writes [][]byte
		for _, n := range rapid.SliceOfN(length, 0, 8).Draw(t, "writes") {
			at := rapid.IntRange(0, len(data)-n).Draw(t, "at")
			writes = append(writes, data[at:at+n])
		}
		check(t, before, after, writes...)
	})
}

func FuzzWrite(f *testing.F) {
	f.Add([]byte(nil), uint16(0), uint16(0))
	f.Add(pattern(300), uint16(1), uint16(65))
	f.Add(pattern(1000), uint16(64), uint16(500))
	f.Fuzz(func(t *testing.T, p []byte, i, j uint16) {
		from := min(int(i), len(p))
		to := max(from, min(int(j), len(p)))
		check(t, p[:from], p[:to], p[from:to], p[to:], p)
	})
}

// The form that is patched here is the one that crypto/sha256 writes.
func TestStateRoundTrip(t *testing.T) {
	h := sha256.New()
	h.Write(pattern(100))
	before, err := h.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var s state
	if !s.load(h) {
		t.Fatal("the state of crypto/sha256 is not known")
	}
	if got := s.partial(); got != 100-chunkSize {
		t.Errorf("partial is %d, want %d", got, 100-chunkSize)
	}
	s.store(h, 0)
	after, err := h.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	if string(before) != string(after) {
		t.Errorf("state is %x, want %x", after, before)
	}
}

func BenchmarkWrite(b *testing.B) {
	p := pattern(256 << 10)
	for _, c := range []struct {
		name  string
		write func(h, g hash.Hash)
	}{
		{"one hash", func(h, _ hash.Hash) { h.Write(p) }},
		{"two hashes", func(h, g hash.Hash) { feed(p, h, g) }},
		{"two at once", func(h, g hash.Hash) { Write(h, g, p) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			h, g := sha256.New(), sha256.New()
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				c.write(h, g)
			}
		})
	}
}
