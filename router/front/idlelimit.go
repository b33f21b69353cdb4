package front

import (
	"container/list"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
)

// idleLimit counts idle connections by address. If an address would have more than Config.MaxIdle, its oldest one is
// closed.
type idleLimit struct {
	config func() Config // as it is now

	mu     sync.Mutex
	byFrom map[Address]*list.List // of net.Conn, the oldest first
	places map[net.Conn]place
}

// A place is the position of an idle connection in the list of its address.
type place struct {
	from    Address
	element *list.Element
}

func newIdleLimit(c func() Config) *idleLimit {
	return &idleLimit{config: c, byFrom: map[Address]*list.List{}, places: map[net.Conn]place{}}
}

// enter adds a connection that has become idle. Connections of trusted proxies are not counted.
func (i *idleLimit) enter(c net.Conn) {
	config := i.config()
	peer, ok := parseHost(c.RemoteAddr().String())
	if config.MaxIdle == 0 || ok && within(peer, config.TrustedProxies) {
		return
	}
	if oldest := i.add(c, AddressOf(peer), config.MaxIdle); oldest != nil {
		_ = closeNow(oldest) // nothing is under way
	}
}

// add adds a connection, and returns the one that has to be closed for it, nil if none.
func (i *idleLimit) add(c net.Conn, from Address, most int64) net.Conn {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.remove(c)
	l := i.byFrom[from]
	if l == nil {
		l = list.New()
		i.byFrom[from] = l
	}
	i.places[c] = place{from, l.PushBack(c)}
	if int64(l.Len()) <= most {
		return nil
	}
	oldest := l.Front().Value.(net.Conn)
	i.remove(oldest)
	return oldest
}

// leave removes a connection that is no longer idle, or closed.
func (i *idleLimit) leave(c net.Conn) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.remove(c)
}

// remove removes a connection, if it is there. i.mu is held.
func (i *idleLimit) remove(c net.Conn) {
	p, there := i.places[c]
	if !there {
		return
	}
	delete(i.places, c)
	if l := i.byFrom[p.from]; l.Len() == 1 {
		delete(i.byFrom, p.from)
	} else {
		l.Remove(p.element)
	}
}

// state follows the connections of an http.Server.
func (i *idleLimit) state(c net.Conn, s http.ConnState) {
	if s == http.StateIdle {
		i.enter(c)
	} else {
		i.leave(c)
	}
}

// closeNow closes a connection without the close_notify of TLS, which would wait until the client takes it.
func closeNow(c net.Conn) error {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	return c.Close()
}
