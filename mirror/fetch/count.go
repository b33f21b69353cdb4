package fetch

import (
	"io"
	"sync/atomic"
)

// counted counts what is read of a body.
type counted struct {
	io.ReadCloser
	count *atomic.Int64
}

// Read reads, and counts.
func (c counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.count.Add(int64(n))
	return n, err
}

// Received returns how many bytes of bodies came from the upstream.
func (u *Upstream) Received() int64 { return u.received.Load() }

// Blame tells Config.Refused that the upstream sent something wrong, which the caller found out. It is
// asked on.
func (u *Upstream) Blame(reason error) {
	if told := u.client.c.Refused; told != nil {
		told(reason)
	}
}
