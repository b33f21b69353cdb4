package update_test

import (
	"crypto/sha256"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/openpowerquality/box-update-server/update"
)

// archive returns n bytes; no two blocks of them are the same.
func archive(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16*13 ^ i>>22*101)
	}
	return b
}

// plainBlocks is the block list of b by its definition.
func plainBlocks(b []byte) (blocks update.Blocks) {
	for part := range slices.Chunk(b, update.BlockSize) {
		blocks = append(blocks, sha256.Sum256(part))
	}
	return blocks
}

// reporter is what testing.T and rapid.T share.
type reporter interface {
	Helper()
	Errorf(format string, args ...any)
}

// checkHasher writes b in parts that end at cuts and compares the result with the definition.
func checkHasher(t reporter, h *update.Hasher, b []byte, cuts ...int) {
	t.Helper()
	from := 0
	for _, to := range append(cuts, len(b)) {
		if n, err := h.Write(b[from:to]); n != to-from || err != nil {
			t.Errorf("write of %d bytes returns %d, %v", to-from, n, err)
		}
		from = to
	}
	digest, blocks, length := h.Result()
	if want := update.Digest(sha256.Sum256(b)); digest != want {
		t.Errorf("digest of %d bytes cut at %d is %v, want %v", len(b), cuts, digest, want)
	}
	if want := plainBlocks(b); !slices.Equal(blocks, want) {
		t.Errorf("blocks of %d bytes cut at %d are %v, want %v", len(b), cuts, blocks, want)
	}
	if length != int64(len(b)) {
		t.Errorf("length is %d, want %d", length, len(b))
	}
}

func TestHasherAroundBlocks(t *testing.T) {
	const size = update.BlockSize
	data := archive(3*size + 1)
	var h update.Hasher // one for all: Result resets it
	for _, n := range []int{0, 1, 63, 64, 65, size - 1, size, size + 1, size + 64, 2*size - 1, 2 * size, 2*size + 1, 3 * size, 3*size + 1} {
		checkHasher(t, &h, data[:n])
		checkHasher(t, &h, data[:n], 0, 0)
		for _, cut := range []int{1, 64, size - 1, size, size + 1, size + 63, 2*size - 1, 2*size + 1} {
			if cut <= n {
				checkHasher(t, &h, data[:n], cut)
			}
		}
	}
}

func TestHasherInAnyParts(t *testing.T) {
	const size = update.BlockSize
	data := archive(2*size + 1000)
	// Lengths and cuts near block boundaries as often as anywhere.
	place := rapid.Custom(func(t *rapid.T) int {
		near := rapid.SampledFrom([]int{0, size, 2 * size}).Draw(t, "boundary") + rapid.IntRange(-130, 130).Draw(t, "offset")
		return rapid.SampledFrom([]int{max(0, near), rapid.IntRange(0, len(data)).Draw(t, "anywhere")}).Draw(t, "place")
	})
	rapid.Check(t, func(t *rapid.T) {
		b := data[:place.Draw(t, "length")]
		cuts := rapid.SliceOfN(place, 0, 6).Draw(t, "cuts")
		for i := range cuts {
			cuts[i] = min(cuts[i], len(b))
		}
		slices.Sort(cuts)
		var h update.Hasher
		checkHasher(t, &h, b, cuts...)
	})
}

func BenchmarkHasher(b *testing.B) {
	p := archive(256 << 10)
	var h update.Hasher
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		if _, err := h.Write(p); err != nil {
			b.Fatal(err)
		}
	}
}
