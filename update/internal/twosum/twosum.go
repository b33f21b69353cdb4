// Package twosum feeds the same bytes to two SHA-256 hashes for the price of one.
//
// The message schedule of SHA-256 (FIPS 180-4, section 6.2.2, step 1) depends on the bytes alone, so
// two hashes that are at the same place within a 64-byte chunk share it. The rounds (step 3) differ,
// but those of one hash are a chain in which each instruction waits for the one before; the rounds of
// the other fit in between.
package twosum

import (
	"encoding"
	"encoding/binary"
	"hash"
)

// chunkSize is how many bytes SHA-256 takes at a time.
const chunkSize = 64

// Write adds p to a and to b. It is always right. It is fast where the processor has SHA-256
// instructions, a and b come from crypto/sha256, the lengths of what they were fed so far differ by a
// multiple of 64, and p is long.
func Write(a, b hash.Hash, p []byte) {
	if hasBlocks2 {
		p = writeBoth(a, b, p)
	}
	a.Write(p)
	b.Write(p)
}

// writeBoth adds to both hashes as much of p as can be shared, and returns the rest.
func writeBoth(a, b hash.Hash, p []byte) []byte {
	var s, t state
	if len(p) < 2*chunkSize || !s.load(a) || !t.load(b) || s.partial() != t.partial() {
		return p
	}
	if n := s.partial(); n > 0 {
		head := p[:chunkSize-n]
		a.Write(head)
		b.Write(head)
		if p = p[len(head):]; !s.load(a) || !t.load(b) {
			return p
		}
	}
	whole := p[:len(p)-len(p)%chunkSize]
	blocks2(&s.words, &t.words, whole)
	s.store(a, len(whole))
	t.store(b, len(whole))
	return p[len(whole):]
}

// The binary form of a hash of crypto/sha256: these four bytes, eight state words, the bytes of the
// chunk that is not full yet in a field of 64, the length in bytes; integers are big-endian.
const (
	magic       = "sha\x03"
	wordsOffset = len(magic)
	chunkOffset = wordsOffset + 8*4
	countOffset = chunkOffset + chunkSize
	binarySize  = countOffset + 8
)

// state is the state of one hash: in binary form, and its words as blocks2 wants them.
type state struct {
	binary []byte
	words  [8]uint32
}

// order says which of the words A to H is at each place of state.words.
func order() [8]int { return [8]int{5, 4, 1, 0, 7, 6, 3, 2} } // F E B A, H G D C

// load takes the state out of h and reports whether h has the form that is known here.
func (s *state) load(h hash.Hash) bool {
	m, ok := h.(encoding.BinaryAppender)
	if !ok {
		return false
	}
	b, err := m.AppendBinary(s.binary[:0])
	if err != nil || len(b) != binarySize || string(b[:wordsOffset]) != magic {
		return false
	}
	s.binary = b
	for i, w := range order() {
		s.words[i] = binary.BigEndian.Uint32(b[wordsOffset+4*w:])
	}
	return true
}

// partial returns how many bytes of an unfinished chunk the state holds.
func (s *state) partial() int {
	return int(binary.BigEndian.Uint64(s.binary[countOffset:]) % chunkSize)
}

// store puts the words into h, n bytes further on.
func (s *state) store(h hash.Hash, n int) {
	for i, w := range order() {
		binary.BigEndian.PutUint32(s.binary[wordsOffset+4*w:], s.words[i])
	}
	count := s.binary[countOffset:]
	binary.BigEndian.PutUint64(count, binary.BigEndian.Uint64(count)+uint64(n))
	if err := h.(encoding.BinaryUnmarshaler).UnmarshalBinary(s.binary); err != nil {
		panic("twosum: crypto/sha256 refuses its own state: " + err.Error())
	}
}
