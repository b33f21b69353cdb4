package cli

import (
	"io"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// How often a meter writes, and from when on.
const (
	terminalEvery = 200 * time.Millisecond
	plainEvery    = 10 * time.Second
	quietFor      = time.Second // a transfer that is over sooner shows nothing
)

// samples is how many of the last values a rate is averaged over.
const samples = 30

// Meter shows the progress of files that are transferred or read. For each file in progress, and for all together, it
// shows how many bytes are done, the rate, and the time left. On a terminal it redraws the last lines; elsewhere it
// writes the same lines every ten seconds. A file that takes less than a second has no line of its own, so that
// thousands of small files show only the line of all together.
//
// Its methods may be called concurrently. While it draws, nothing else may write to the terminal: messages go through
// Write. The caller of NewMeter calls End.
type Meter struct {
	terminal bool
	out      io.Writer
	every    time.Duration
	quiet    time.Duration

	mu    sync.Mutex
	since time.Time // when the first file was shown
	bars  *mpb.Progress
	all   gauge // bytes of all files
	want  int64 // bytes of all announced files
	files map[string]*gauge
	open  int // how many files are not over
}

// NewMeter returns a meter on s.Err. Nothing is shown yet.
func (s Streams) NewMeter() *Meter {
	m := &Meter{out: s.Err, every: terminalEvery, quiet: quietFor, files: map[string]*gauge{}}
	m.terminal = isTerminal(s.Err) && s.Getenv("TERM") != "dumb"
	if !m.terminal {
		m.out, m.every = &turns{w: s.Err}, plainEvery
	}
	return m
}

// Plan announces files of bytes bytes in all, in addition to those announced before. Without it there is no line of
// all files.
func (m *Meter) Plan(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.want += bytes
	if m.all.bar != nil {
		m.all.bar.SetTotal(m.want, false)
	}
}

// Show records that done of total bytes of a file are done; done may be less than before. A file is over when all its
// bytes are done. The meter ends when all files are over and all announced bytes are done.
func (m *Meter) Show(name string, total, done int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if m.since.IsZero() {
		m.since, m.all.at = now, now
	}
	g := m.files[name]
	if g == nil { // bytes that were there before don't count for the rate
		g = &gauge{since: now, at: now, done: done, over: true}
		m.files[name] = g
		m.all.found(done)
	}
	m.follow(g, done, total)
	if g.over || now.Sub(g.at) >= m.every/2 {
		m.count(g, now)
	}
	if g.over && m.open == 0 && m.all.latest >= m.want {
		m.end()
		return
	}
	if now.Sub(m.since) >= m.quiet {
		m.drawAll()
	}
	if !g.over && now.Sub(g.since) >= m.quiet {
		m.draw(name, g, total)
	}
}

// follow records how many bytes of a file are done, and whether it is over. The caller holds mu.
func (m *Meter) follow(g *gauge, done, total int64) {
	if g.over {
		m.open++
	}
	if g.latest, g.over = done, done >= total; g.over {
		m.open--
	}
}

// count updates the line of a file. It updates the line of all files less often, since thousands of files may end in a
// second. The caller holds mu.
func (m *Meter) count(g *gauge, now time.Time) {
	m.all.latest += g.latest - g.done
	if now.Sub(m.all.at) >= m.every/2 {
		m.all.set(m.all.latest, now)
	}
	g.set(g.latest, now)
}

// draw begins to show a file. The caller holds mu.
func (m *Meter) draw(name string, g *gauge, total int64) {
	if g.bar == nil {
		m.start()
		g.begin(m.bar(Printable(name), total, mpb.BarRemoveOnComplete()))
	}
}

// drawAll begins to show the line of all files, if any were announced. The caller holds mu.
func (m *Meter) drawAll() {
	if m.all.bar == nil && m.want > 0 {
		m.start()
		m.all.begin(m.bar("in all", m.want, mpb.BarPriority(math.MaxInt)))
	}
}

// start makes the container of the lines, unless there is one. The caller holds mu.
func (m *Meter) start() {
	if m.bars == nil {
		m.bars = mpb.New(mpb.WithOutput(m.out), mpb.WithRefreshRate(m.every), mpb.WithAutoRefresh())
	}
}

// bar returns a new line. The caller holds mu.
func (m *Meter) bar(name string, total int64, option mpb.BarOption) *mpb.Bar {
	style := mpb.BarFillerBuilder(mpb.NopStyle())
	if m.terminal {
		style = mpb.BarStyle()
	}
	return m.bars.New(total, style, option,
		mpb.PrependDecorators(decor.Name(name, decor.WCSyncSpaceR)),
		mpb.AppendDecorators(
			decor.Counters(decor.SizeB1000(0), "% .1f of % .1f", decor.WCSyncSpace),
			decor.EwmaSpeed(decor.SizeB1000(0), "% .1f", samples, decor.WCSyncSpace),
			decor.Meta(decor.EwmaETA(decor.ET_STYLE_GO, samples, decor.WCSyncSpace), unknown),
			decor.Name(" left"),
		))
}

// unknown replaces the time left by a question mark if there is no rate yet.
func unknown(left string) string {
	if strings.TrimSpace(left) == "0s" {
		return strings.Replace(left, "0s", " ?", 1)
	}
	return left
}

// Write writes a message to Streams.Err, on a terminal above the lines of the meter.
func (m *Meter) Write(p []byte) (int, error) {
	if !m.terminal {
		return m.out.Write(p)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.bars == nil {
		return m.out.Write(p)
	}
	return m.bars.Write(p)
}

// End removes the lines of files and leaves the line of all files. It may be called again, and the meter may be
// used again after it.
func (m *Meter) End() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.end()
}

func (m *Meter) end() {
	now := time.Now()
	for _, g := range m.files {
		m.count(g, now)
		g.end(true)
	}
	m.all.set(m.all.latest, now)
	m.all.end(false)
	if m.bars != nil {
		m.bars.Wait()
	}
	m.since, m.bars, m.all, m.want, m.files, m.open = time.Time{}, nil, gauge{}, 0, map[string]*gauge{}, 0
}

// gauge is the state of one line, whether it is shown or not.
type gauge struct {
	since  time.Time
	bar    *mpb.Bar  // nil: it is not shown
	done   int64     // bytes that the line shows
	at     time.Time // when done was set
	latest int64     // bytes that are done; done follows it
	over   bool
}

func (g *gauge) begin(b *mpb.Bar) {
	g.bar = b
	b.SetCurrent(g.done)
}

// found adds bytes that were there before, without counting them for the rate.
func (g *gauge) found(n int64) {
	if g.bar != nil {
		g.bar.IncrInt64(n)
	}
	g.done += n
	g.latest += n
}

func (g *gauge) set(done int64, now time.Time) {
	if g.bar != nil {
		g.bar.EwmaIncrInt64(done-g.done, now.Sub(g.at))
	}
	g.done, g.at = done, now
}

func (g *gauge) end(remove bool) {
	if g.bar != nil {
		g.bar.Abort(remove)
	}
}

// turns is a writer that serializes concurrent writes, so that lines are not mixed.
type turns struct {
	mu sync.Mutex
	w  io.Writer
}

func (t *turns) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.w.Write(p)
}
