package update

import (
	"crypto/sha256"
	"hash"
)

// Hasher computes the digest and the block list of an archive in one pass. It is an io.Writer whose
// writes never fail. The zero Hasher is ready for use.
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
		h.whole.Write(part)
		h.block.Write(part)
		p = p[len(part):]
		if h.length += int64(len(part)); h.length%BlockSize == 0 {
			h.endBlock()
		}
	}
	return n, nil
}

func (h *Hasher) endBlock() {
	h.blocks = append(h.blocks, Digest(h.block.Sum(nil)))
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
