package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/openpowerquality/box-update-server/cmd/internal/cli"
	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// A metered link may bring so many bytes of archives a day, max_bytes_per_day. What is over comes on the
// next days: an update that is longer than a day's share arrives in parts. Metadata don't count, and
// neither does what a mirror sent wrong. Days are those of UTC, by the reference time.

// errCap says that no more may come today.
var errCap = errors.New("the daily cap is reached")

// today returns the day that counts.
func (b *box) today() string {
	at := b.streams.Now()
	if repo, err := b.state.Current(); err == nil {
		at = b.at(repo)
	}
	return at.UTC().Format(time.DateOnly)
}

// left returns how many bytes may come today.
func (b *box) left() int64 {
	if b.record.Day != b.today() {
		return b.MaxBytesPerDay
	}
	return max(b.MaxBytesPerDay-b.record.Bytes, 0)
}

// spend counts bytes that came.
func (b *box) spend(n int64) error {
	if b.MaxBytesPerDay == 0 {
		return nil
	}
	if day := b.today(); b.record.Day != day {
		b.record.Day, b.record.Bytes = day, 0
	}
	b.record.Bytes += n
	return b.remember()
}

func (b *box) overCap(rel trust.Release, need int64) error {
	return cli.WithCode(fmt.Errorf("%v: %w: %d bytes have to come next, and max_bytes_per_day leaves %d today; the rest comes on the next days",
		rel.Name(), errCap, need, b.left()), codeHeld)
}

// metered returns a sink that takes no more than may come today, and an error where that is nothing.
func (b *box) metered(rel trust.Release, to fetch.Sink) (fetch.Sink, error) {
	if b.MaxBytesPerDay == 0 {
		return to, nil
	}
	m := &meteredSink{to, b, rel}
	return m, m.allow()
}

// meteredSink is a sink that counts. Where the next block would be too much, it ends the download with
// an error of its own, so that no mirror is asked for that block today.
type meteredSink struct {
	fetch.Sink
	box *box
	rel trust.Release
}

// WriteBlock takes a block and counts it.
func (m *meteredSink) WriteBlock(i int, p []byte) error {
	if err := m.Sink.WriteBlock(i, p); err != nil {
		return err
	}
	if err := m.box.spend(int64(len(p))); err != nil {
		return err
	}
	return m.allow()
}

// allow refuses the next block where it is too much for today.
func (m *meteredSink) allow() error {
	missing := m.Missing()
	if len(missing) == 0 {
		return nil
	}
	if next := update.BlockLength(m.rel.Length(), missing[0]); next > m.box.left() {
		return m.box.overCap(m.rel, next)
	}
	return nil
}
