package dropdir

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/openpowerquality/box-update-server/update"
)

// cacheMagic begins a cache and tells its version.
const cacheMagic = "box-update-server digest cache 1\n"

// maxCache bounds a cache in bytes. A list of 32 bytes for each 4 MiB makes that 32 TiB of archives.
const maxCache = 256 << 20

// errCorrupt says that a cache is not what encodeCache wrote.
var errCorrupt = errors.New("corrupt digest cache")

// The flags of a file in the cache.
const (
	flagReplaced = 1 << iota
	flagHashed
	flagChecked // only beside flagHashed
	allFlags    = flagReplaced | flagHashed | flagChecked
)

// encodeCache writes down every name that was ever listed. The format, where a number is a minimal
// varint, a time a minimal zig-zag varint of nanoseconds since 1970 and a text a number of bytes and
// these bytes:
//
//	"box-update-server digest cache 1\n"
//	for each name, ascending by version, product and format:
//	    name (text), inode, size (numbers), mtime, ctime (times)
//	    flags (one byte: 1 replaced, 2 hashed, 4 checked)
//	    where hashed: digest (32 bytes), block list (32 bytes for each 4 MiB of size)
//	    where checked: number of problems, each a text
//	SHA-256 of everything before (32 bytes)
func encodeCache(entries map[update.Name]*entry) []byte {
	b := []byte(cacheMagic)
	for _, n := range slices.SortedFunc(maps.Keys(entries), byVersion) {
		if e := entries[n]; e.served {
			b = appendEntry(b, n, e)
		}
	}
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

func appendEntry(b []byte, n update.Name, e *entry) []byte {
	r := e.known
	b = appendText(b, n.String())
	b = binary.AppendUvarint(b, r.stamp.inode)
	b = binary.AppendUvarint(b, uint64(r.stamp.size))
	b = binary.AppendVarint(b, r.stamp.mtime)
	b = binary.AppendVarint(b, r.stamp.ctime)
	b = append(b, r.flags(e.replaced))
	if !r.digest.IsZero() {
		b = append(b, r.digest[:]...)
		for _, d := range r.blocks {
			b = append(b, d[:]...)
		}
	}
	if r.checked {
		b = binary.AppendUvarint(b, uint64(len(r.problems)))
		for _, p := range r.problems {
			b = appendText(b, p)
		}
	}
	return b
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func (r record) flags(replaced bool) (f byte) {
	if replaced {
		f |= flagReplaced
	}
	if !r.digest.IsZero() {
		f |= flagHashed
	}
	if r.checked {
		f |= flagChecked
	}
	return f
}

// parseCache accepts exactly what encodeCache writes. The error is errCorrupt.
func parseCache(b []byte) (map[update.Name]*entry, error) {
	end := len(b) - sha256.Size
	if end < len(cacheMagic) || string(b[:len(cacheMagic)]) != cacheMagic {
		return nil, fmt.Errorf("%w: expected %q at its beginning", errCorrupt, cacheMagic)
	}
	if sum := sha256.Sum256(b[:end]); sum != [sha256.Size]byte(b[end:]) {
		return nil, fmt.Errorf("%w: wrong checksum", errCorrupt)
	}
	r := &reader{rest: b[len(cacheMagic):end]}
	entries := make(map[update.Name]*entry)
	var last update.Name
	for len(r.rest) > 0 {
		n, e := r.entry()
		if r.err == nil && byVersion(last, n) >= 0 {
			r.fail("%v out of order", n)
		}
		if r.err != nil {
			return nil, fmt.Errorf("%w: %w", errCorrupt, r.err)
		}
		entries[n], last = e, n
	}
	return entries, nil
}

// reader takes a cache apart. After the first error everything that it returns is zero.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
	r.rest = nil
}

func (r *reader) entry() (update.Name, *entry) {
	n, err := update.ParseName(r.text(255))
	if err != nil {
		r.fail("%w", err)
	}
	e := &entry{served: true}
	k := &e.known
	k.stamp = stamp{inode: r.number(), size: r.size(), mtime: r.time(), ctime: r.time()}
	flags := r.flags()
	e.replaced = flags&flagReplaced != 0
	if flags&flagHashed != 0 {
		k.digest, k.blocks = r.digests(k.stamp.size)
	}
	if k.checked = flags&flagChecked != 0; k.checked {
		k.problems = r.problems()
	}
	return n, e
}

func (r *reader) flags() byte {
	b := r.bytes(1)
	if r.err != nil {
		return 0
	}
	if b[0] > allFlags || b[0]&flagChecked != 0 && b[0]&flagHashed == 0 {
		r.fail("flags %#x", b[0])
		return 0
	}
	return b[0]
}

func (r *reader) digests(size int64) (update.Digest, update.Blocks) {
	b := r.bytes(sha256.Size)
	list := r.bytes(uint64(update.BlockCount(size)) * sha256.Size)
	if r.err != nil {
		return update.Digest{}, nil
	}
	blocks, err := update.ParseBlocks(list, size)
	if err != nil {
		r.fail("%w", err)
	}
	d := update.Digest(b)
	if d.IsZero() {
		r.fail("zero digest")
	}
	return d, blocks
}

func (r *reader) problems() []string {
	count := r.number()
	if count > maxProblems {
		r.fail("%d problems, at most %d", count, maxProblems)
	}
	var list []string
	for range count {
		p := r.text(maxText)
		if r.err != nil {
			return nil
		}
		if clip(p) != p {
			r.fail("problem %q", p)
		}
		list = append(list, p)
	}
	return list
}

func (r *reader) size() int64 {
	n := r.number()
	if n > update.MaxLength {
		r.fail("size %d, at most %d", n, int64(update.MaxLength))
		return 0
	}
	return int64(n)
}

func (r *reader) text(most uint64) string {
	n := r.number()
	if n > most {
		r.fail("text of %d bytes, at most %d", n, most)
	}
	return string(r.bytes(n))
}

func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.rest)) {
		r.fail("%d bytes are missing", n-uint64(len(r.rest)))
	}
	if r.err != nil {
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) number() uint64 {
	v, n := binary.Uvarint(r.rest)
	if !r.skip(n) {
		return 0
	}
	return v
}

func (r *reader) time() int64 {
	v, n := binary.Varint(r.rest)
	if !r.skip(n) {
		return 0
	}
	return v
}

// skip skips a varint of n bytes and refuses one that is cut, too large or not minimal.
func (r *reader) skip(n int) bool {
	if n <= 0 || n > 1 && r.rest[n-1] == 0 {
		r.fail("not a number")
		return false
	}
	r.rest = r.rest[n:]
	return true
}
