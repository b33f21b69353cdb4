package cli

import (
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

const (
	quietFor     = time.Second            // a transfer that is over sooner shows nothing
	drawEvery    = 200 * time.Millisecond // how often the line changes
	smoothFor    = 5 * time.Second        // a rate is the average of about this time
	waitFor      = 2 * time.Second        // a wait that is over sooner shows nothing
	defaultWidth = 80                     // columns of a terminal that does not know its size, such as a serial console
)

// Meter shows the progress of files that are transferred or read, on one line of a terminal: the name of the file
// or, of several announced ones, how many are done; then bytes, rate and time left. When nothing happens for two seconds,
// the line says what is waited for, and for how long. It shows nothing if Streams.Err is not a terminal. It uses neither
// colour nor escape sequences, so that it also works on a serial console.
//
// Its methods may be called concurrently. While files are in progress, messages must go through Write, so that they do
// not mix with the line. The caller of NewMeter calls End.
type Meter struct {
	out    io.Writer
	width  func() int  // columns of the terminal; nil: it is none
	silent func() bool // nothing is shown

	mu   sync.Mutex
	line int // columns that the line takes now
	transfer
	waits []*wait     // in the order in which they began
	tick  *time.Timer // draws the wait that began first; nil: there was none yet
}

// wait is something that takes long.
type wait struct {
	what  string
	began time.Time
}

// transfer is what a meter shows together, from the first file until all files are over.
type transfer struct {
	began, drawn time.Time // when the first file was shown, and when the rate was computed last; zero: not yet
	files        map[string]fileProgress
	over         int     // how many of files are over
	done, total  int64   // bytes of files
	rated        int64   // how much of done the rate covers
	rate         float64 // bytes per second
	planned      int     // how many files were announced
	plannedBytes int64
}

type fileProgress struct{ total, done int64 }

func (f fileProgress) over() bool { return f.done >= f.total }

// NewMeter returns a meter on s.Err. Nothing is shown yet.
func (s Streams) NewMeter() *Meter {
	m := &Meter{out: s.Err, silent: s.Silenced, transfer: transfer{files: map[string]fileProgress{}}}
	if f, ok := s.Err.(*os.File); ok && isTerminal(f) && s.Getenv("TERM") != "dumb" {
		m.width = func() int {
			if columns, _, err := term.GetSize(int(f.Fd())); err == nil && columns > 0 {
				return columns
			}
			return defaultWidth
		}
	}
	return m
}

// Plan announces files with so many bytes together, in addition to those announced before. The number is 0 if it is
// not known.
func (m *Meter) Plan(files int, bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.planned += files
	m.plannedBytes += bytes
}

// Show records that done of total bytes of a file are done; done may be less than before. A file is over when all its
// bytes are done. The meter ends when all files are over and all announced bytes are done.
func (m *Meter) Show(name string, total, done int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if m.began.IsZero() {
		m.began, m.drawn = now, now
	}
	was, known := m.files[name]
	f := fileProgress{total, done}
	m.files[name] = f
	m.done += f.done - was.done
	m.total += f.total - was.total
	if !known {
		m.rated += f.done // these bytes were there before
	}
	if known && was.over() {
		m.over--
	}
	if f.over() {
		m.over++
	}
	switch {
	case m.over == len(m.files) && m.done >= m.plannedBytes:
		m.end()
	case m.width != nil && !m.silent() && now.Sub(m.began) >= quietFor && now.Sub(m.drawn) >= drawEvery:
		m.measure(now)
		m.draw(name)
	}
}

// Wait shows what is done, such as "asking http://updates.example", if it takes more than two seconds. The caller calls
// end when it is over.
func (m *Meter) Wait(what string) (end func()) {
	if m.width == nil {
		return func() {}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	w := &wait{what, time.Now()}
	m.waits = append(m.waits, w)
	if len(m.waits) == 1 {
		m.tickIn(waitFor)
	}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.waits = slices.DeleteFunc(m.waits, func(other *wait) bool { return other == w })
		if len(m.waits) == 0 {
			m.tick.Stop()
			if m.began.IsZero() {
				m.clear()
			}
		}
	}
}

// tickIn draws what is waited for after a pause. The caller holds mu.
func (m *Meter) tickIn(pause time.Duration) {
	if m.tick == nil {
		m.tick = time.AfterFunc(pause, m.drawWait)
	} else {
		m.tick.Reset(pause)
	}
}

// drawWait draws the wait that began first, unless a transfer makes progress, and again every second.
func (m *Meter) drawWait() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.waits) == 0 {
		return // it ended while the timer fired
	}
	now := time.Now()
	for _, w := range m.waits {
		if since := now.Sub(w.began); since >= waitFor && now.Sub(m.drawn) >= waitFor && !m.silent() {
			m.drawLine(Printable(w.what), fmt.Sprintf("%.0f s", since.Seconds()))
			break
		}
	}
	m.tickIn(time.Second)
}

// measure updates the rate. The caller holds mu.
func (m *Meter) measure(now time.Time) {
	seconds := now.Sub(m.drawn).Seconds()
	weight := 1 - math.Exp(-seconds/smoothFor.Seconds())
	if m.line == 0 && m.rate == 0 {
		weight = 1 // the first rate is the average until now
	}
	m.rate += weight * (float64(m.done-m.rated)/seconds - m.rate)
	m.rated, m.drawn = m.done, now
}

// draw writes the line anew. The caller holds mu.
func (m *Meter) draw(name string) {
	name = Printable(name)
	if m.planned > 1 {
		name = fmt.Sprintf("%d of %d archives", m.over, m.planned)
	}
	total, left := max(m.plannedBytes, m.total), "?"
	if m.rate >= 1 {
		left = time.Duration(float64(total-m.done) / m.rate * float64(time.Second)).Round(time.Second).String()
	}
	m.drawLine(name, fmt.Sprintf("%s of %s  %s/s  %s left", Size(m.done), Size(total), Size(int64(m.rate)), left))
}

// drawLine writes the line anew: a name, of which the begin is left out where there is no room, and facts. The caller
// holds mu.
func (m *Meter) drawLine(name, text string) {
	// The last column stays empty: a terminal may begin a new line after it.
	columns := m.width() - 1
	if room := columns - len("  ") - len(text); len(name) <= room {
		text = name + "  " + text
	} else if room > len("...") {
		text = "..." + strings.ToValidUTF8(name[len(name)-room+len("..."):], "") + "  " + text
	}
	text = text[:min(len(text), max(columns, 0))]
	fmt.Fprintf(m.out, "\r%-*s", m.line, text)
	m.line = len(text)
}

// Size returns a number of bytes in words.
func Size(n int64) string {
	units := []string{"kB", "MB", "GB", "TB"}
	value := float64(n) / 1e3
	for len(units) > 1 && value >= 999.95 {
		value, units = value/1e3, units[1:]
	}
	return fmt.Sprintf("%.1f %s", max(value, 0), units[0])
}

// Write writes a message to Streams.Err, in place of the line, which comes again below it.
func (m *Meter) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clear()
	return m.out.Write(p)
}

// End removes the line. It may be called again, and the meter may be used again after it.
func (m *Meter) End() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.end()
}

func (m *Meter) end() {
	m.clear()
	m.transfer = transfer{files: map[string]fileProgress{}}
}

// clear removes the line. The caller holds mu.
func (m *Meter) clear() {
	if m.line > 0 {
		fmt.Fprintf(m.out, "\r%s\r", strings.Repeat(" ", m.line))
		m.line = 0
	}
}
