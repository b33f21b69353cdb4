package dropdir

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/update"
)

const (
	// cacheFile is the name of the cache in Config.Cache; oldCacheFile is that of earlier versions.
	cacheFile    = "digests.json"
	oldCacheFile = "digests.cache"

	// maxCache bounds a cache in bytes. With 32 bytes for each block of 4 MiB, it allows 24 TiB of archives.
	maxCache = 256 << 20

	// How often the cache is saved while digests arrive. A large one is saved less often, so that saving takes
	// saveRate bytes per second on average.
	saveEvery = 5 * time.Second
	saveLast  = 5 * time.Minute
	saveRate  = 200 << 10
)

// errCorrupt says that a cache is not what encodeCache wrote.
var errCorrupt = errors.New("corrupt digest cache")

// cachedFile is what the cache has of one name.
type cachedFile struct {
	Name     update.Name   `json:"name"`
	Inode    uint64        `json:"inode"`
	Size     int64         `json:"size"`
	Modified int64         `json:"mtime"` // nanoseconds since 1970, as disk.Stamp has them
	Changed  int64         `json:"ctime"`
	Replaced bool          `json:"replaced,omitempty"`
	Digest   update.Digest `json:"digest,omitzero"`
	Blocks   []byte        `json:"blocks,omitempty"`   // 32 bytes for each 4 MiB; absent without a digest
	Problems *[]string     `json:"problems,omitempty"` // absent if the archive was not checked; only hashed archives are
}

// encodeCache returns the cache document for these entries.
func encodeCache(entries map[update.Name]*entry) []byte {
	files := []cachedFile{}
	for _, n := range slices.SortedFunc(maps.Keys(entries), update.Name.CompareByVersion) {
		e := entries[n]
		if !e.everListed() {
			continue
		}
		k := e.known
		f := cachedFile{n, k.stamp.Inode, k.stamp.Size, k.stamp.Modified, k.stamp.Changed, e.replaced, k.digest, k.blocks.Bytes(), nil}
		if k.checked {
			f.Problems = new(append([]string{}, k.problems...))
		}
		files = append(files, f)
	}
	list, _ := json.Marshal(files) // no value of these types can fail
	return sealCache(list)
}

// sealCache returns the cache of a JSON list of cachedFile: every name that was ever listed, ascending by version, product
// and format. The SHA-256 in it is that of the list as written.
func sealCache(list []byte) []byte {
	return slices.Concat(fmt.Appendf(nil, `{"format":2,"sha256":"%v","files":`, update.Sum(list)), list, []byte("}\n"))
}

// parseCache accepts exactly what encodeCache writes. Otherwise the error is errCorrupt.
func parseCache(b []byte) (map[update.Name]*entry, error) {
	begin, end := bytes.IndexByte(b, '['), bytes.LastIndexByte(b, ']')+1
	if begin < 0 || begin >= end || !bytes.Equal(sealCache(b[begin:end]), b) {
		return nil, fmt.Errorf("%w: wrong beginning, end or checksum", errCorrupt)
	}
	var files []cachedFile
	if err := json.Unmarshal(b[begin:end], &files); err != nil {
		return nil, fmt.Errorf("%w: %w", errCorrupt, err)
	}
	// There is one spelling: a list with something left out, added or shortened differs.
	if again, _ := json.Marshal(files); !bytes.Equal(again, b[begin:end]) {
		return nil, fmt.Errorf("%w: it is not what was written", errCorrupt)
	}
	entries := make(map[update.Name]*entry, len(files))
	for i, f := range files {
		e, err := f.entry()
		if err == nil && i > 0 && files[i-1].Name.CompareByVersion(f.Name) >= 0 {
			err = fmt.Errorf("not in order after %v", files[i-1].Name)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %v: %w", errCorrupt, f.Name, err)
		}
		entries[f.Name] = e
	}
	return entries, nil
}

// entry returns what the cache has of a name as an entry that is not listed yet.
func (f cachedFile) entry() (*entry, error) {
	e := &entry{known: record{stamp: disk.Stamp{Inode: f.Inode, Size: f.Size, Modified: f.Modified, Changed: f.Changed}, digest: f.Digest}, replaced: f.Replaced}
	switch {
	case !e.everListed():
		return nil, errors.New("no inode, size and times")
	case f.Size < 0 || f.Size > update.MaxLength:
		return nil, fmt.Errorf("size %d, at most %d", f.Size, int64(update.MaxLength))
	}
	if f.Digest.IsZero() {
		if len(f.Blocks) > 0 || f.Problems != nil {
			return nil, errors.New("blocks or problems, but no digest")
		}
		return e, nil
	}
	blocks, err := update.ParseBlocks(f.Blocks, f.Size)
	if err != nil {
		return nil, err
	}
	e.known.blocks = blocks
	if f.Problems != nil {
		e.known.checked, e.known.problems = true, *f.Problems
		if !slices.Equal(clipAll(e.known.problems), e.known.problems) {
			return nil, errors.New("problems of more text than is kept")
		}
	}
	return e, nil
}

// parseOldCache reads the cache of earlier versions, which ends with the SHA-256 of all that is before it. It has
// facts that hashing again can't tell: which names were replaced, and that there were updates. A number is a varint,
// a time a zig-zag varint of nanoseconds since 1970, a text a number of bytes and these bytes:
//
//	"box-update-server digest cache 1\n"
//	for each name:
//	    name (text), inode, size (numbers), mtime, ctime (times)
//	    flags (one byte: 1 replaced, 2 hashed, 4 checked)
//	    if hashed: digest (32 bytes), block list (32 bytes for each 4 MiB of size)
//	    if checked: number of problems, each a text
func parseOldCache(b []byte) (map[update.Name]*entry, error) {
	const magic = "box-update-server digest cache 1\n"
	body, sum := b[:max(0, len(b)-sha256.Size)], b[max(0, len(b)-sha256.Size):]
	rest, ok := bytes.CutPrefix(body, []byte(magic))
	if want := update.Sum(body); !ok || !bytes.Equal(sum, want[:]) {
		return nil, fmt.Errorf("%w: wrong beginning or checksum", errCorrupt)
	}
	cut := func(n int) []byte { // the next n bytes; after a failure none
		if ok = ok && n >= 0 && n <= len(rest); !ok {
			return nil
		}
		out := rest[:n]
		rest = rest[n:]
		return out
	}
	number := func() uint64 {
		n, size := binary.Uvarint(rest)
		ok = ok && size > 0
		cut(size)
		return n
	}
	moment := func() int64 {
		n, size := binary.Varint(rest)
		ok = ok && size > 0
		cut(size)
		return n
	}
	text := func() string { return string(cut(int(number()))) }
	entries := make(map[update.Name]*entry)
	for ok && len(rest) > 0 {
		n, err := update.ParseName(text())
		k := record{stamp: disk.Stamp{Inode: number(), Size: int64(number()), Modified: moment(), Changed: moment()}}
		flags := cut(1)
		if !ok || err != nil || k.stamp.Size < 0 || k.stamp.Size > update.MaxLength {
			return nil, fmt.Errorf("%w: cut short, or no name or size", errCorrupt)
		}
		if flags[0]&2 != 0 {
			digest, list := cut(sha256.Size), cut(update.BlockCount(k.stamp.Size)*sha256.Size)
			if k.blocks, err = update.ParseBlocks(list, k.stamp.Size); !ok || err != nil {
				return nil, fmt.Errorf("%w: %v: no digest or block list", errCorrupt, n)
			}
			k.digest = update.Digest(digest)
		}
		if k.checked = flags[0]&4 != 0; k.checked {
			for count := number(); count > 0 && ok; count-- {
				k.problems = append(k.problems, text())
			}
		}
		entries[n] = &entry{known: k, replaced: flags[0]&1 != 0}
	}
	if !ok {
		return nil, fmt.Errorf("%w: cut short", errCorrupt)
	}
	return parseCache(encodeCache(entries)) // this checks all bounds
}

// loadCache reads the cache into the state, if there is one that can be read. An error says that there is no
// directory to keep one in.
func (d *Dir) loadCache() error {
	if d.c.Cache == "" {
		return nil
	}
	if err := d.files.MkdirAll(d.c.Cache, 0o700); err != nil {
		return fmt.Errorf("digest cache: %w", err)
	}
	if err := d.files.RemoveTemps(d.c.Cache); err != nil {
		return fmt.Errorf("digest cache: %w", err)
	}
	for _, c := range []struct {
		name  string
		parse func([]byte) (map[update.Name]*entry, error)
	}{{cacheFile, parseCache}, {oldCacheFile, parseOldCache}} {
		path := filepath.Join(d.c.Cache, c.name)
		b, err := disk.ReadFile(path, maxCache)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var entries map[update.Name]*entry
		if err == nil {
			entries, err = c.parse(b)
		}
		if err != nil {
			d.c.Logger.Warn("digest cache dropped: every archive is hashed again", "file", path, "err", err)
			return nil
		}
		d.state.restore(entries)
		d.state.unsaved = c.name == oldCacheFile
		return nil
	}
	return nil
}

// saveCache writes the cache if it is not up to date. After an error the old one is still there and the next call
// tries again.
func (d *Dir) saveCache() error {
	d.mu.Lock()
	if !d.state.unsaved || d.c.Cache == "" {
		d.mu.Unlock()
		return nil
	}
	d.state.unsaved = false
	b := encodeCache(d.state.entries)
	d.saveGap = min(max(saveEvery, time.Duration(len(b))*time.Second/saveRate), saveLast)
	d.mu.Unlock()

	err := fmt.Errorf("%d bytes, at most %d", len(b), maxCache)
	if len(b) <= maxCache {
		err = d.files.WriteFile(filepath.Join(d.c.Cache, cacheFile), b, 0o600)
	}
	if err == nil {
		err = d.files.Remove(filepath.Join(d.c.Cache, oldCacheFile)) // it is never updated again
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.report()
	d.state.note("digest cache not saved", err)
	if err != nil {
		d.state.unsaved = true
		return fmt.Errorf("digest cache: %w", err)
	}
	return nil
}
