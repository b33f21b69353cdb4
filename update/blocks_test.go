package update_test

import (
	"bytes"
	"crypto/sha256"
	"math"
	"testing"

	"github.com/openpowerquality/box-update-server/update"
)

// list is a block list and the length of its archive.
type list struct {
	bytes  []byte
	length int64
}

func TestParseBlocksRefuses(t *testing.T) {
	const length = 2*update.BlockSize + 1
	good := bytes.Repeat([]byte{7}, 3*sha256.Size)
	parse := func(l list) (string, error) {
		b, err := update.ParseBlocks(l.bytes, l.length)
		return string(b.Bytes()), err
	}
	if _, err := parse(list{good, length}); err != nil {
		t.Fatal(err)
	}
	refuses(t, parse, []refusal[list]{
		{"a byte short", list{good[1:], length}, "block list: expected 96 bytes for an archive of 8388609, got 95"},
		{"a byte more", list{append(good, 0), length}, "block list: expected 96 bytes for an archive of 8388609, got 97"},
		{"a block short", list{good[sha256.Size:], length}, "block list: expected 96 bytes for an archive of 8388609, got 64"},
		{"empty", list{nil, length}, "block list: expected 96 bytes for an archive of 8388609, got 0"},
		{"shorter archive", list{good, length - 1}, "block list: expected 64 bytes for an archive of 8388608, got 96"},
		{"empty archive", list{good, 0}, "block list: expected 0 bytes for an archive of 0, got 96"},
		{"negative length", list{good, -1}, "block list: archive length -1 is not between 0 and 1099511627776"},
		{"archive too long", list{good, update.MaxLength + 1}, "block list: archive length 1099511627777 is not between 0 and 1099511627776"},
		{"length that overflows", list{good, math.MaxInt64}, "block list: archive length 9223372036854775807 is not between 0 and 1099511627776"},
	})
}

func TestBlockLengths(t *testing.T) {
	const size = update.BlockSize
	for _, c := range []struct {
		length int64
		count  int
		last   int64
	}{
		{0, 0, 0}, {1, 1, 1}, {size - 1, 1, size - 1}, {size, 1, size}, {size + 1, 2, 1},
		{2*size - 1, 2, size - 1}, {2 * size, 2, size}, {update.MaxLength, 262144, size},
	} {
		n := update.BlockCount(c.length)
		if n != c.count {
			t.Errorf("an archive of %d bytes has %d blocks, want %d", c.length, n, c.count)
		}
		var sum int64
		for i := range n {
			sum += update.BlockLength(c.length, i)
		}
		if sum != c.length {
			t.Errorf("the blocks of %d bytes have %d", c.length, sum)
		}
		if n > 0 && update.BlockLength(c.length, n-1) != c.last {
			t.Errorf("the last block of %d bytes has %d, want %d", c.length, update.BlockLength(c.length, n-1), c.last)
		}
	}
}

func FuzzParseBlocks(f *testing.F) {
	f.Add([]byte(nil), int64(0))
	f.Add(bytes.Repeat([]byte{1, 2}, sha256.Size), int64(update.BlockSize+1))
	f.Add(bytes.Repeat([]byte{1}, sha256.Size), int64(-1))
	f.Add([]byte{1}, int64(math.MaxInt64))
	f.Fuzz(func(t *testing.T, b []byte, length int64) {
		blocks, err := update.ParseBlocks(b, length)
		if err != nil {
			return
		}
		if !bytes.Equal(blocks.Bytes(), b) {
			t.Errorf("%x prints as %x", b, blocks.Bytes())
		}
		if len(blocks) != update.BlockCount(length) {
			t.Errorf("%d blocks for an archive of %d bytes", len(blocks), length)
		}
	})
}
