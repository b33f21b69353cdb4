package router

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/openpowerquality/box-update-server/router/front"
)

// The memory of bodies that anybody may send.
const (
	// smallMemory is for bodies of up to smallUpload bytes, and for the first piece of each larger one, which moves
	// to largeMemory with its second piece. So small bodies and silent clients can't take the memory of large bodies,
	// and large bodies can't keep others from beginning.
	smallMemory = 4 << 20
	largeMemory = 20 << 20
	smallUpload = 256 << 10

	// When memory runs out, an address that holds more than one of this many shares of a pool is the first to lose an
	// upload.
	sharesOfMemory = 4

	// uploadCost is what an upload counts for in addition to its later pieces. It covers the first piece, and bounds
	// the number of uploads.
	uploadCost  = 16 << 10
	firstPiece  = 4 << 10
	uploadPiece = 64 << 10

	// firstByteTime is how long the first byte of a body may take.
	firstByteTime = time.Second
)

// The rate of an upload is measured over the last rateTime or so, so that an upload which stops is soon seen as slow.
// In bytes per second, fastEnough is the highest rate that counts. A new upload starts with newRate: more than a slow
// one has, so that it can begin, and less than a fast one has, so that a stream of new uploads can't end a fast one.
const (
	rateTime   = 2 * time.Second
	fastEnough = 256 << 10
	newRate    = 192 << 10
)

// errDisplaced says that an upload was ended because others needed its memory.
var errDisplaced = fmt.Errorf("%w: others needed the memory that it took", errSlow)

// An upload is a body that is being received from a sender that has proved nothing: a list or a root. It takes memory
// as its bytes arrive, not as its header announces them, so that a silent client takes almost none.
type upload struct {
	list    *uploads
	from    front.Address
	size    int64 // at least 1
	body    io.Reader
	control *http.ResponseController

	// Guarded by uploads.mu.
	have  int64     // bytes that arrived
	rate  float64   // in bytes per second, at the time last
	last  time.Time // when bytes last arrived, or when it began
	pool  *pool     // that its memory is from; nil: it has none
	held  int64     // bytes of memory that it holds
	whole bool      // all has arrived: it is no longer ended for others
	ended bool      // it was ended, because others needed its memory

	pieces []*[]byte // from uploads.pieces, the last of which a Read may be filling
}

func newUpload(l *uploads, from front.Address, size int64, body io.Reader, c *http.ResponseController) *upload {
	return &upload{list: l, from: from, size: size, body: body, control: c, rate: newRate, last: time.Now()}
}

// arrived notes that bytes arrived. u.list.mu is held.
func (u *upload) arrived(n int, now time.Time) {
	u.have += int64(n)
	u.rate = min(fastEnough, u.rateAt(now)+float64(n)/rateTime.Seconds())
	u.last = now
	u.whole = u.have == u.size
}

// rateAt returns the rate of an upload at now. Bytes count less the longer ago they arrived. u.list.mu is held.
func (u *upload) rateAt(now time.Time) float64 {
	return u.rate * math.Exp(-now.Sub(u.last).Seconds()/rateTime.Seconds())
}

// uploads are all uploads under way. None waits for another: when the memory is used up, one of them is ended.
type uploads struct {
	mu           sync.Mutex
	small, large pool

	pieces sync.Pool // *[]byte of the length of a piece
}

// A pool is memory that uploads share.
type pool struct {
	room, total int64
	byFrom      map[front.Address]int64 // bytes that the uploads of an address hold
	uploads     map[*upload]struct{}
}

func newPool(room int64) pool {
	return pool{room: room, byFrom: map[front.Address]int64{}, uploads: map[*upload]struct{}{}}
}

func newUploads() *uploads {
	return &uploads{
		small:  newPool(smallMemory),
		large:  newPool(largeMemory),
		pieces: sync.Pool{New: func() any { b := make([]byte, uploadPiece); return &b }},
	}
}

// remove frees the memory of an upload whose bytes are no longer needed. It must be called before the request ends.
func (l *uploads) remove(u *upload) {
	l.mu.Lock()
	defer l.mu.Unlock()
	u.setMemory(nil, 0)
	u.putBack(len(u.pieces))
}

// putBack gives the first n pieces back. u.list.mu is held.
func (u *upload) putBack(n int) {
	for _, p := range u.pieces[:n] {
		u.list.pieces.Put(p)
	}
	u.pieces = u.pieces[n:]
}

// addPiece returns a piece for n more bytes, or errDisplaced if the upload was ended.
func (u *upload) addPiece(n int64) ([]byte, error) {
	u.list.mu.Lock()
	defer u.list.mu.Unlock()
	if u.ended {
		return nil, errDisplaced
	}
	p := u.list.pieces.Get().(*[]byte)
	u.pieces = append(u.pieces, p)
	return (*p)[:n], nil
}

// setMemory makes an upload hold n bytes of p and nothing of any other pool. A nil p frees its memory. u.list.mu is
// held.
func (u *upload) setMemory(p *pool, n int64) {
	if old := u.pool; old != nil {
		delete(old.uploads, u)
		old.total -= u.held
		if old.byFrom[u.from] -= u.held; old.byFrom[u.from] == 0 {
			delete(old.byFrom, u.from)
		}
	}
	if u.pool, u.held = p, n; p != nil {
		p.uploads[u] = struct{}{}
		p.total += n
		p.byFrom[u.from] += n
	}
}

// grow gives an upload n more bytes of memory. It ends other uploads if that is needed. It returns errBusy if no
// other upload should end before u, and errDisplaced if u itself was ended.
func (l *uploads) grow(u *upload, n int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if u.ended {
		return errDisplaced
	}
	p := &l.small
	if u.held > 0 && u.size > smallUpload {
		p = &l.large
	}
	u.setMemory(p, u.held+n)
	for now := time.Now(); p.total > p.room; {
		slowest := p.slowest(now)
		if slowest == nil || slowest == u {
			u.setMemory(nil, 0)
			return errBusy
		}
		slowest.end()
	}
	return nil
}

// slowest returns the upload to end next, nil if none can be: the slowest of those whose address holds more than its
// share, or else the slowest of all. uploads.mu is held.
func (p *pool) slowest(now time.Time) (out *upload) {
	greedy := func(u *upload) bool { return p.byFrom[u.from] > p.room/sharesOfMemory }
	for u := range p.uploads {
		switch {
		case u.whole, out != nil && greedy(out) && !greedy(u):
		case out == nil, greedy(u) && !greedy(out), u.rateAt(now) < out.rateAt(now):
			out = u
		}
	}
	return out
}

// end ends an upload, whose memory counts as free from now on. Others use it at once, but for the piece that a Read may
// be filling: until the upload has noticed its end, it would hold memory that is given to others too. u.list.mu is held.
func (u *upload) end() {
	u.ended = true
	u.setMemory(nil, 0)
	u.putBack(max(0, len(u.pieces)-1))
	_ = u.control.SetReadDeadline(time.Unix(1, 0)) // fails where the connection is gone
}

// Read reads from the body. It returns errDisplaced if the upload was ended, even if the last bytes have arrived.
func (u *upload) Read(p []byte) (int, error) {
	n, err := u.body.Read(p)
	u.list.mu.Lock()
	defer u.list.mu.Unlock()
	if u.ended {
		return 0, errDisplaced
	}
	u.arrived(n, time.Now())
	return n, err
}

// setDeadline sets the read deadline of an upload. It returns errDisplaced if the upload was ended.
func (u *upload) setDeadline(t time.Time) error {
	u.list.mu.Lock()
	defer u.list.mu.Unlock()
	if u.ended {
		return errDisplaced
	}
	return u.control.SetReadDeadline(t)
}

// upload reads the body of a request whose length was checked and whose sender has proved nothing. When all of it has
// arrived, upload acquires lane, so that there may be a copy in one piece, and returns that copy. The caller calls done
// when it no longer needs the copy.
func (rt *router) upload(w *reply, r *http.Request, lane *semaphore.Weighted) (body []byte, done func(), err error) {
	u := newUpload(rt.bodies.uploads, front.ClientOf(r, rt.config.Front.TrustedProxies), r.ContentLength, r.Body, http.NewResponseController(w))
	defer u.list.remove(u)
	pieces, err := rt.receive(u)
	if err != nil {
		return nil, nil, err
	}
	w.whole = true
	if done, err = acquire(r.Context(), 1, lane); err != nil {
		return nil, nil, err
	}
	return bytes.Join(pieces, nil), done, nil
}

// receive reads an upload in pieces, which are valid until the upload is removed.
func (rt *router) receive(u *upload) (pieces [][]byte, err error) {
	from := rt.paced(u, u.size, u.setDeadline)
	from.first = firstByteTime
	if u.size > 0 {
		pieces = append(pieces, make([]byte, min(firstPiece, u.size)))
		if err := u.list.grow(u, uploadCost); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(from, pieces[0]); err != nil {
			return nil, err
		}
	}
	for left := u.size - firstPiece; left > 0; left -= uploadPiece {
		if err := u.list.grow(u, uploadPiece); err != nil {
			return nil, err
		}
		piece, err := u.addPiece(min(uploadPiece, left))
		if err != nil {
			return nil, err
		}
		pieces = append(pieces, piece)
		if _, err := io.ReadFull(from, piece); err != nil {
			return nil, err
		}
	}
	return pieces, nil
}
