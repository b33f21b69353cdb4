package server

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A server that stands on no terminal logs what takes long, now and then.
func TestTransferLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		l := &transferLog{logger: slog.New(slog.NewTextHandler(&b, nil)), done: map[string]int64{}}
		l.show("on demand", 5)
		l.begin(2000)
		for i := range int64(70) {
			l.show("a", 10*(i+1))
			l.show("b", i+1)
			time.Sleep(time.Second)
		}
		lines := strings.Split(strings.TrimSpace(b.String()), "\n")
		if len(lines) != 2 || !strings.Contains(lines[0], "bytes=340 of=2000 archive=a") || !strings.Contains(lines[1], "bytes=670 of=2000") {
			t.Errorf("expected a line every half minute, got %q", lines)
		}
		b.Reset()
		l.begin(0)
		time.Sleep(time.Hour)
		l.show("a", 1000)
		if b.Len() > 0 {
			t.Errorf("expected nothing after its end, got %q", b.String())
		}
	})
}
