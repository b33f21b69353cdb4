package router

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"net/http"
	"sync"
	"time"
)

// The memory of bodies that anybody may send.
const (
	// uploadMemory is how many bytes all of them together may hold.
	uploadMemory = 16 << 20

	// uploadReserve is how much of that only small bodies may take, those of up to smallUpload bytes.
	uploadReserve = 4 << 20
	smallUpload   = 256 << 10

	// uploadShare is what one address may hold while others need memory.
	uploadShare = uploadMemory / 4

	// uploadCost is what an upload counts for beside its bytes. It covers its first piece, and bounds
	// how many there are.
	uploadCost  = 16 << 10
	firstPiece  = 4 << 10
	uploadPiece = 64 << 10

	// firstByteTime is uploads.first.
	firstByteTime = time.Second
)

// How the rate of an upload is measured: over the last seconds, so that one which stood still is soon told
// from one that comes. fastEnough, in bytes per second, is the most that counts, and what an upload begins with.
const (
	rateTime   = 2 * time.Second
	fastEnough = 256 << 10
)

// errMadeWay says that an upload was ended because others needed its memory.
var errMadeWay = fmt.Errorf("%w: others needed the memory that it took", errSlow)

// An upload is a body that anybody may send, while it comes. It takes memory as its bytes arrive, not as
// its header announces them: whoever sends nothing takes nothing.
type upload struct {
	list    *uploads
	from    address
	size    int64 // at least 1
	body    io.Reader
	control *http.ResponseController

	// Guarded by uploads.mu.
	have  int64     // bytes that arrived
	rate  float64   // in bytes per second, as it was at last
	last  time.Time // when bytes arrived, or it began
	held  int64     // of memory
	whole bool      // all has arrived: it can't be ended any more
	ended bool      // it made way, and its memory is others'
}

// arrived notes that bytes arrived. u.list.mu is held.
func (u *upload) arrived(n int, now time.Time) {
	u.have += int64(n)
	u.rate = min(fastEnough, u.rateAt(now)+float64(n)/rateTime.Seconds())
	u.last = now
	u.whole = u.have == u.size
}

// rateAt returns how fast an upload comes: what came counts the less the longer ago it was. u.list.mu is held.
func (u *upload) rateAt(now time.Time) float64 {
	return u.rate * math.Exp(-now.Sub(u.last).Seconds()/rateTime.Seconds())
}

// uploads are those that come now. None waits for another: where the memory is used up, the slowest
// upload ends, one of an address that holds more than its share before all others.
type uploads struct {
	first time.Duration // how long the first byte of a body may take

	mu     sync.Mutex
	coming map[*upload]struct{}
	byFrom map[address]int64 // what the uploads of an address hold
	total  int64

	pieces sync.Pool // *[]byte of the length of a piece
}

func newUploads() *uploads {
	return &uploads{
		first:  firstByteTime,
		coming: map[*upload]struct{}{},
		byFrom: map[address]int64{},
		pieces: sync.Pool{New: func() any { b := make([]byte, uploadPiece); return &b }},
	}
}

// remove ends an upload whose bytes are needed no more. It is called before the request ends.
func (l *uploads) remove(u *upload) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.coming, u)
	l.hold(u, -u.held)
}

// hold changes how much memory an upload takes. l.mu is held.
func (l *uploads) hold(u *upload, n int64) {
	u.held += n
	l.total += n
	if l.byFrom[u.from] += n; l.byFrom[u.from] == 0 {
		delete(l.byFrom, u.from)
	}
}

// grow gives an upload n more bytes of memory. The error is errBusy where no other can make way for it, and
// errMadeWay where it has made way itself.
func (l *uploads) grow(u *upload, n int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if u.ended {
		return errMadeWay
	}
	l.coming[u] = struct{}{}
	room := int64(uploadMemory)
	if u.size > smallUpload {
		room -= uploadReserve
	}
	l.hold(u, n)
	for l.total > room {
		slowest := l.slowest(time.Now())
		if slowest == nil || slowest == u {
			l.hold(u, -n)
			return errBusy
		}
		l.end(slowest)
	}
	return nil
}

// slowest returns which upload is to make way, nil if none can: one of an address that holds more than its
// share, else one that has brought next to nothing, else any, and of these the slowest. Without the second rule
// a stream of new ones, each of which counts as fast at first, would end a slow one that has come far. l.mu is held.
func (l *uploads) slowest(now time.Time) (out *upload) {
	rank := func(u *upload) int {
		switch {
		case l.byFrom[u.from] > uploadShare:
			return 2
		case u.have < min(firstPiece, u.size):
			return 1
		}
		return 0
	}
	for u := range l.coming {
		if u.whole || u.ended {
			continue
		}
		if out == nil || rank(u) > rank(out) || rank(u) == rank(out) && u.rateAt(now) < out.rateAt(now) {
			out = u
		}
	}
	return out
}

// end ends an upload, whose memory counts as free from now on. l.mu is held.
func (l *uploads) end(u *upload) {
	u.ended = true
	l.hold(u, -u.held)
	_ = u.control.SetReadDeadline(time.Unix(1, 0)) // fails where the connection is gone
}

// Read reads from the body.
func (u *upload) Read(p []byte) (int, error) {
	n, err := u.body.Read(p)
	u.list.mu.Lock()
	defer u.list.mu.Unlock()
	u.arrived(n, time.Now())
	return n, err
}

// setDeadline sets until when an upload is read. The error is errMadeWay where it was ended.
func (u *upload) setDeadline(t time.Time) error {
	u.list.mu.Lock()
	defer u.list.mu.Unlock()
	if u.ended {
		return errMadeWay
	}
	return u.control.SetReadDeadline(t)
}

// upload reads the body of a request whose length was checked, whoever sends it. Once it is there,
// admitted says when there may be a copy in one piece, which is returned, until the caller calls done.
func (rt *router) upload(w *reply, r *http.Request, admitted func() (done func(), err error)) (body []byte, done func(), err error) {
	l := rt.bodies.uploads
	u := &upload{
		list:    l,
		from:    clientOf(r, rt.config.TrustedProxies),
		size:    r.ContentLength,
		body:    r.Body,
		control: http.NewResponseController(w),
		rate:    fastEnough,
		last:    time.Now(),
	}
	defer l.remove(u)
	pieces, back, err := rt.receive(u)
	defer back()
	if err != nil {
		return nil, nil, err
	}
	w.whole = true
	if done, err = admitted(); err != nil {
		return nil, nil, err
	}
	return bytes.Join(pieces, nil), done, nil
}

// receive reads an upload, in pieces that back gives back.
func (rt *router) receive(u *upload) (pieces [][]byte, back func(), err error) {
	l := u.list
	var pooled []*[]byte
	back = func() {
		for _, p := range pooled {
			l.pieces.Put(p)
		}
	}
	from := rt.paced(u, u.size, u.setDeadline)
	from.first = l.first
	if u.size > 0 {
		pieces = append(pieces, make([]byte, min(firstPiece, u.size)))
		if err := l.grow(u, uploadCost); err != nil {
			return nil, back, err
		}
		if _, err := io.ReadFull(from, pieces[0]); err != nil {
			return nil, back, err
		}
	}
	for left := u.size - firstPiece; left > 0; left -= uploadPiece {
		if err := l.grow(u, uploadPiece); err != nil {
			return nil, back, err
		}
		p := l.pieces.Get().(*[]byte)
		pooled = append(pooled, p)
		piece := (*p)[:min(uploadPiece, left)]
		pieces = append(pieces, piece)
		if _, err := io.ReadFull(from, piece); err != nil {
			return nil, back, err
		}
	}
	return pieces, back, nil
}
