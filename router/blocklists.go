package router

import (
	"sync"

	"github.com/openpowerquality/box-update-server/update"
)

const (
	// maxBlockLists bounds what the block lists that are kept at hand take, in bytes.
	maxBlockLists = 4 << 20

	// answerOverhead is what an answer takes beside its body, in bytes.
	answerOverhead = 1 << 10
)

// blockLists are answers for block lists by the digest of the archive. None of them ever changes.
type blockLists struct {
	mu       sync.Mutex
	byDigest map[update.Digest]*answer
	bytes    int
}

// find returns the answer that is kept, nil if there is none.
func (l *blockLists) find(d update.Digest) *answer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.byDigest[d]
}

// keep renders the answer and keeps it, unless it is very large. Where there are too many, the others go.
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
