package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/openpowerquality/box-update-server/cmd/internal/cli"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// How often a meter shows something, on a terminal and as plain lines elsewhere. What is over sooner
// shows nothing.
const (
	meterEvery = 200 * time.Millisecond
	plainEvery = 10 * time.Second
)

// meter shows how a transfer of archives goes on: bytes, rate and time left. Its methods may be called
// concurrently.
type meter struct {
	streams cli.Streams
	start   time.Time

	mu           sync.Mutex
	want, before int64 // bytes: in all, and there before the first was reported
	done         map[update.Digest]int64
	shown, plain time.Time
	drawn        bool
}

func newMeter(s cli.Streams) *meter {
	now := time.Now()
	return &meter{streams: s, start: now, shown: now, plain: now, done: map[update.Digest]int64{}}
}

func (m *meter) sinks() sinks { return sinks{m.plan, m.progress} }

// plan takes in what is to come.
func (m *meter) plan(releases []trust.Release) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range releases {
		m.want += r.Length()
	}
}

// progress takes in how many bytes of an archive are there.
func (m *meter) progress(r trust.Release, done int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.done[r.Digest()]; !known {
		m.before += done
	}
	m.done[r.Digest()] = done
	now := time.Now()
	if now.Sub(m.shown) < meterEvery {
		return
	}
	m.shown = now
	text := m.text(r, done, now)
	if m.streams.Progress(text, false); m.streams.Terminal() {
		m.drawn = true
	} else if now.Sub(m.plain) >= plainEvery {
		m.plain = now
		fmt.Fprintln(m.streams.Err, cli.Printable(text))
	}
}

// text says how it goes. The caller holds mu.
func (m *meter) text(r trust.Release, done int64, now time.Time) string {
	var sum int64
	for _, n := range m.done {
		sum += n
	}
	rate := float64(sum-m.before) / max(now.Sub(m.start).Seconds(), 0.001)
	left := "?"
	if rate > 0 {
		left = time.Duration(float64(m.want-sum) / rate * float64(time.Second)).Round(time.Second).String()
	}
	const mb = 1e6
	return fmt.Sprintf("%.1f of %.1f MB, %.2f MB/s, %s left; %v %d%%",
		float64(sum)/mb, float64(m.want)/mb, rate/mb, left, r.Name(), 100*done/max(1, r.Length()))
}

// end ends the line on a terminal.
func (m *meter) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.drawn {
		m.streams.Progress("", true)
	}
}
