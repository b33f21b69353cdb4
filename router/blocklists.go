package router

import (
	"sync"

	"github.com/openpowerquality/box-update-server/update"
)

const (
	// maxBlockLists bounds the memory of all cached block lists, in bytes.
	maxBlockLists = 4 << 20

	// answerOverhead is the memory that an answer takes besides its body, in bytes.
	answerOverhead = 1 << 10
)

// blockLists caches answers for block lists, by the digest of the archive. A block list never changes.
type blockLists struct {
	mu       sync.Mutex
	byDigest map[update.Digest]*answer
	bytes    int
}

// find returns the cached answer, nil if there is none.
func (l *blockLists) find(d update.Digest) *answer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.byDigest[d]
}

// keep renders the answer for a block list and caches it, unless it is larger than maxBlockLists. If the cache is
// full, keep drops all other answers.
func (l *blockLists) keep(d update.Digest, list update.Blocks) *answer {
	a := cachedAnswer("application/octet-stream", list.Bytes(), cacheForever)
	size := len(a.body) + answerOverhead
	l.mu.Lock()
	defer l.mu.Unlock()
	if size > maxBlockLists || l.byDigest[d] != nil {
		return a
	}
	if l.bytes += size; l.bytes > maxBlockLists || l.byDigest == nil {
		l.byDigest, l.bytes = map[update.Digest]*answer{}, size
	}
	l.byDigest[d] = a
	return a
}
