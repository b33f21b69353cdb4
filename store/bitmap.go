package store

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"github.com/openpowerquality/box-update-server/update"
)

// The map of an arriving archive says which of its blocks are on the disk:
//
//	"blocks1\n"          8 bytes
//	block list digest    32 bytes: which list the numbers refer to
//	bits                 one for each block, the lowest bit of the first byte is block 0; unused bits are 0
//	SHA-256              32 bytes, of all before
//
// A map that is damaged counts as empty: the blocks are fetched again.
const (
	mapMagic = "blocks1\n"
	maxMap   = int64(len(mapMagic)) + 2*sha256.Size + update.MaxLength/update.BlockSize/8 + 1
)

type bitmap struct {
	bits []byte
	n    int
}

func newBitmap(n int) bitmap { return bitmap{make([]byte, (n+7)/8), n} }

func (b bitmap) has(i int) bool { return b.bits[i/8]&(1<<(i%8)) != 0 }
func (b bitmap) set(i int)      { b.bits[i/8] |= 1 << (i % 8) }

func (b bitmap) clone() bitmap { return bitmap{slices.Clone(b.bits), b.n} }

func (b bitmap) count() int {
	n := 0
	for _, c := range b.bits {
		n += bits.OnesCount8(c)
	}
	return n
}

func (b bitmap) missing() []int {
	var out []int
	for i := range b.n {
		if !b.has(i) {
			out = append(out, i)
		}
	}
	return out
}

func (b bitmap) encode(list update.Digest) []byte {
	out := append([]byte(mapMagic), list[:]...)
	out = append(out, b.bits...)
	sum := update.Sum(out)
	return append(out, sum[:]...)
}

// parseMap parses the map of an archive of n blocks with that block list.
func parseMap(raw []byte, list update.Digest, n int) (bitmap, error) {
	b := newBitmap(n)
	if want := len(mapMagic) + 2*sha256.Size + len(b.bits); len(raw) != want {
		return bitmap{}, fmt.Errorf("map of blocks: expected %d bytes, got %d", want, len(raw))
	}
	body, sum := raw[:len(raw)-sha256.Size], raw[len(raw)-sha256.Size:]
	if got := update.Sum(body); !bytes.Equal(got[:], sum) {
		return bitmap{}, errors.New("map of blocks: checksum does not fit")
	}
	head := append([]byte(mapMagic), list[:]...)
	if !bytes.HasPrefix(body, head) {
		return bitmap{}, errors.New("map of blocks: of another list or format")
	}
	copy(b.bits, body[len(head):])
	if n%8 != 0 && bits.Len8(b.bits[len(b.bits)-1]) > n%8 {
		return bitmap{}, errors.New("map of blocks: has bits beyond its last block")
	}
	return b, nil
}
