package router

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/router/front"
)

// A rawHTTP2 is a client that keeps its windows shut: it takes nothing of any body.
type rawHTTP2 struct {
	net.Conn
	*http2.Framer
}

func (s secured) shut(t *testing.T) rawHTTP2 {
	t.Helper()
	c := tls.Client(testworld.Dial(t, s.addr), &tls.Config{RootCAs: s.roots, ServerName: "127.0.0.1", NextProtos: []string{"h2"}})
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	f := rawHTTP2{c, http2.NewFramer(c, c)}
	if err := f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}); err != nil {
		t.Fatal(err)
	}
	return f
}

// get asks for an archive on so many streams.
func (f rawHTTP2) get(t *testing.T, streams int) {
	t.Helper()
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for i := range streams {
		block.Reset()
		for _, h := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "test"}, {":path", "/update/" + newName}} {
			if err := e.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}); err != nil {
				t.Fatal(err)
			}
		}
		err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// outcomes reads what becomes of the streams until all says that it is enough: how many were answered since,
// and how many ended.
func (f rawHTTP2) outcomes(t *testing.T, all func(answered, ended int) bool) (answered, ended int) {
	t.Helper()
	for !all(answered, ended) {
		frame, err := f.ReadFrame()
		if err != nil {
			t.Fatalf("%d answered, %d ended: %v", answered, ended, err)
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				err = f.WriteSettingsAck()
			}
		case *http2.HeadersFrame:
			answered++
		case *http2.RSTStreamFrame:
			ended++
		case *http2.GoAwayFrame:
			err = errors.New(frame.ErrCode.String())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return answered, ended
}

// Streams whose client takes nothing are few and small.
func TestShutStreamsTakeLittleMemory(t *testing.T) {
	f := newFake(t)
	f.add(t, newName, make([]byte, 1<<20), true)
	s := startTLS(t, Config{Source: f})
	const conns, streams = 20, 250
	before := allocated()
	var all []rawHTTP2
	for range conns {
		c := s.shut(t)
		c.get(t, streams)
		all = append(all, c)
	}
	for _, c := range all {
		answered, _ := c.outcomes(t, func(answered, ended int) bool { return answered+ended == streams })
		if answered != front.MaxStreams {
			t.Errorf("%d of %d streams are answered at once, want %d", answered, streams, front.MaxStreams)
		}
	}
	took := allocated() - before
	t.Logf("%d kB a connection", took/conns>>10)
	if took > 2*conns<<20 { // the race detector has its share
		t.Errorf("%d connections took %d MB", conns, took>>20)
	}
}

// A stream of which its client takes nothing ends as soon as it has stalled.
func TestShutStreamEnds(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.add(t, newName, make([]byte, 1<<20), true)
	s := startTLS(t, Config{Source: f, Front: front.Config{StallWindow: 200 * time.Millisecond, MinRate: front.LeastStreamPiece * 5}})
	c := s.shut(t)
	c.get(t, 1)
	c.outcomes(t, func(_, ended int) bool { return ended == 1 })
}

// allocated returns how many bytes of memory live.
func allocated() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
