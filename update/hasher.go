package update

import (
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"sync"

	"github.com/openpowerquality/box-update-server/update/internal/twosum"
)

// Hasher computes the digest and the block list of an archive in one pass. It is an io.Writer whose
// writes never fail. The zero Hasher is ready for use. Writes of some hundred kilobytes are the
// fastest.
type Hasher struct {
	whole, block hash.Hash
	length       int64
	blocks       Blocks
}

// Write adds p to the archive.
func (h *Hasher) Write(p []byte) (int, error) {
	if h.whole == nil {
		h.whole, h.block = sha256.New(), sha256.New()
	}
	n := len(p)
	for len(p) > 0 {
		part := p[:min(int64(len(p)), BlockSize-h.length%BlockSize)]
		h.add(part)
		p = p[len(part):]
		if h.length%BlockSize == 0 {
			h.endBlock()
		}
	}
	return n, nil
}

// add adds bytes of one block. So far the first block is the whole archive and is hashed once.
func (h *Hasher) add(part []byte) {
	if h.length < BlockSize {
		h.whole.Write(part)
	} else {
		twosum.Write(h.whole, h.block, part)
	}
	h.length += int64(len(part))
}

func (h *Hasher) endBlock() {
	from := h.block
	if h.length <= BlockSize {
		from = h.whole
	}
	h.blocks = append(h.blocks, Digest(from.Sum(nil)))
	h.block.Reset()
}

// Result returns digest, block list and length in bytes of what was written, and resets the Hasher.
func (h *Hasher) Result() (Digest, Blocks, int64) {
	if h.length%BlockSize != 0 {
		h.endBlock()
	}
	d, blocks, length := Sum(nil), h.blocks, h.length
	if h.whole != nil {
		d = Digest(h.whole.Sum(nil))
	}
	*h = Hasher{}
	return d, blocks, length
}

// hashBuffers has a *hashBuffer for each call of Hash: a small archive is hashed faster than one is made.
var hashBuffers = sync.Pool{New: func() any { return new(hashBuffer) }}

type hashBuffer [512 << 10]byte

// Hash reads an archive to its end, in constant memory, and returns its digest, block list and length in bytes. read, if
// not nil, is called after each piece, with its length.
func Hash(ctx context.Context, archive io.Reader, read func(n int)) (Digest, Blocks, int64, error) {
	buffer := hashBuffers.Get().(*hashBuffer)
	defer hashBuffers.Put(buffer)
	var h Hasher
	for buf := buffer[:]; ; {
		if err := ctx.Err(); err != nil {
			return Digest{}, nil, 0, err
		}
		n, err := archive.Read(buf)
		h.Write(buf[:n])
		if n > 0 && read != nil {
			read(n)
		}
		if errors.Is(err, io.EOF) {
			digest, blocks, length := h.Result()
			return digest, blocks, length, nil
		}
		if err != nil {
			return Digest{}, nil, 0, err
		}
	}
}

// SumWith returns the digest of a block and adds the block to whole, a hash of crypto/sha256, for little more than the
// price of one.
func SumWith(whole hash.Hash, block []byte) Digest {
	h := sha256.New()
	twosum.Write(whole, h, block)
	return Digest(h.Sum(nil))
}
