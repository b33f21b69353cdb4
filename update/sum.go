package update

import (
	"crypto/sha256"
	"hash"

	"github.com/openpowerquality/box-update-server/update/internal/twosum"
)

// SumWith returns the digest of a block and adds the block to whole, a hash of crypto/sha256, for little
// more than the price of one.
func SumWith(whole hash.Hash, block []byte) Digest {
	h := sha256.New()
	twosum.Write(whole, h, block)
	return Digest(h.Sum(nil))
}
