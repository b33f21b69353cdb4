package archive

import "io"

const (
	aheadChunks = 4
	aheadChunk  = 256 << 10 // bytes
)

// ahead reads r in a goroutine of its own, aheadChunks chunks before the reader at most, so that
// decompressing and writing go on at the same time.
type ahead struct {
	full  chan []byte // in order; closed at the end
	empty chan []byte
	stop  chan struct{}
	err   error // what ended r; to be read once full is closed

	chunk, rest []byte // what is being read and what of it is still unread
}

// readAhead begins to read r. The caller closes it before using r again.
func readAhead(r io.Reader) *ahead {
	a := &ahead{
		full:  make(chan []byte, aheadChunks),
		empty: make(chan []byte, aheadChunks),
		stop:  make(chan struct{}),
	}
	for range aheadChunks {
		a.empty <- make([]byte, aheadChunk)
	}
	go a.fill(r)
	return a
}

func (a *ahead) fill(r io.Reader) {
	defer close(a.full)
	for a.err == nil {
		var chunk []byte
		select {
		case <-a.stop:
			return
		case chunk = <-a.empty:
		}
		n := 0
		for n < len(chunk) && a.err == nil {
			var m int
			m, a.err = r.Read(chunk[n:])
			n += m
		}
		a.full <- chunk[:n] // there is room for all chunks
	}
}

func (a *ahead) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		if a.chunk != nil {
			a.empty <- a.chunk[:aheadChunk]
		}
		var more bool
		if a.chunk, more = <-a.full; !more {
			return 0, a.err
		}
		a.rest = a.chunk
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// close waits until r is no longer read.
func (a *ahead) close() {
	close(a.stop)
	for range a.full {
	}
}
