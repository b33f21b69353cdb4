package cli

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
)

// screen is the last line of a terminal, as a person sees it. It fails the test if text needs more columns than there
// are, or contains an escape sequence.
type screen struct {
	t       *testing.T
	columns int
	lines   []string // what was written above the last line
	line    []byte
	at      int
	seen    []string    // each state of the last line at the end of a write
	mu      *sync.Mutex // the meter holds it while it writes
}

func (s *screen) Write(p []byte) (int, error) {
	for _, c := range p {
		switch {
		case c == '\r':
			s.at = 0
		case c == '\n':
			s.lines = append(s.lines, s.text())
			s.line, s.at = nil, 0
		case c < ' ':
			s.t.Errorf("control character %q in %q", c, p)
		default:
			if s.at == len(s.line) {
				s.line = append(s.line, c)
			}
			s.line[s.at] = c
			s.at++
		}
	}
	if len(s.line) >= s.columns {
		s.t.Errorf("expected less than %d columns, got %q", s.columns, s.line)
	}
	s.seen = append(s.seen, s.text())
	return len(p), nil
}

// shown returns the last line and what is above it, also while the timer of the meter may draw.
func (s *screen) shown() (last string, above, seen []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text(), slices.Clone(s.lines), slices.Clone(s.seen)
}

func (s *screen) text() string { return strings.TrimRight(string(s.line), " ") }

// onScreen returns a meter that writes to a terminal with so many columns.
func onScreen(t *testing.T, columns int) (*Meter, *screen) {
	s := &screen{t: t, columns: columns}
	m := Streams{Err: s, Getenv: func(string) string { return "" }}.NewMeter()
	m.width = func() int { return columns }
	s.mu = &m.mu
	return m, s
}

// transferAt shows 40 seconds of a file that was there in part, at 1 MB per second.
func transferAt(m *Meter, name string) {
	m.Show(name, 100e6, 20e6)
	for i := range 40 {
		time.Sleep(time.Second)
		m.Show(name, 100e6, 20e6+int64(i+1)*1e6)
	}
}

func TestMeterShowsOneFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, s := onScreen(t, 80)
		m.Plan(1, 100e6)
		transferAt(m, "opq-box-update-7.tar.bz2")
		if want := "opq-box-update-7.tar.bz2  60.0 MB of 100.0 MB  1.0 MB/s  40s left"; s.text() != want {
			t.Errorf("expected %q, got %q", want, s.text())
		}
		fmt.Fprintln(m, "a message")
		if len(s.lines) != 1 || s.lines[0] != "a message" || s.text() != "" {
			t.Errorf("expected the message alone, got %q above %q", s.lines, s.text())
		}
		time.Sleep(time.Second)
		m.Show("opq-box-update-7.tar.bz2", 100e6, 61e6)
		if !strings.Contains(s.text(), "61.0 MB of 100.0 MB") {
			t.Errorf("expected the line again, got %q", s.text())
		}
		m.End()
		if len(s.lines) != 1 || s.text() != "" {
			t.Errorf("expected no line, got %q above %q", s.lines, s.text())
		}
	})
}

func TestMeterShowsSeveralFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, s := onScreen(t, 80)
		m.Plan(30, 30*100e3)
		for i := range 30 {
			name := fmt.Sprintf("small-%d", i)
			m.Show(name, 100e3, 0)
			time.Sleep(500 * time.Millisecond)
			m.Show(name, 100e3, 100e3)
		}
		if want := "29 of 30 archives  2.9 MB of 3.0 MB  200.0 kB/s  1s left"; !strings.Contains(strings.Join(s.seen, "\n"), want) {
			t.Errorf("expected %q, got %q", want, s.seen)
		}
		if s.text() != "" {
			t.Errorf("expected no line after the last file, got %q", s.text())
		}
	})
}

// TestMeterFits: whatever the width of the terminal, the line needs less.
func TestMeterFits(t *testing.T) {
	for columns, want := range map[int]string{
		1: "", 20: "60.0 MB of 100.0 MB", 41: "60.0 MB of 100.0 MB  1.0 MB/s  40s left",
		50: "...vwxyz  60.0 MB of 100.0 MB  1.0 MB/s  40s left",
	} {
		synctest.Test(t, func(t *testing.T) {
			m, s := onScreen(t, columns)
			transferAt(m, "abcdefghijklmnopqrstuvwxyz")
			if s.text() != want {
				t.Errorf("%d columns: expected %q, got %q", columns, want, s.text())
			}
			m.End()
		})
	}
}

// TestMeterEscapes: a name must not be able to move the cursor.
func TestMeterEscapes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, s := onScreen(t, 80)
		transferAt(m, "one\x1b[2J\n")
		if want := `one\x1b[2J\n  60.0 MB`; !strings.HasPrefix(s.text(), want) || len(s.lines) > 0 {
			t.Errorf("expected %q, got %q above %q", want, s.lines, s.text())
		}
	})
}

func TestMeterKnowsNoTimeWithoutARate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, s := onScreen(t, 80)
		m.Show("a", 1e9, 5e6)
		time.Sleep(2 * time.Second)
		m.Show("a", 1e9, 1e6) // a block has to come again
		if want := "a  1.0 MB of 1.0 GB  0.0 kB/s  ? left"; s.text() != want {
			t.Errorf("expected %q, got %q", want, s.text())
		}
	})
}

func TestMeterIsQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, s := onScreen(t, 80)
		for i := range 9 { // less than a second each time
			for done := range 10 {
				time.Sleep(99 * time.Millisecond)
				m.Show("a", 9, int64(done))
			}
			if len(m.files) > 0 {
				t.Fatalf("%d: expected it to end with its last file", i)
			}
		}
		m.End()
		if len(s.seen) > 0 {
			t.Errorf("expected nothing, got %q", s.seen)
		}
	})
}

func TestMeterWithoutATerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		m := Streams{Err: &b, Getenv: func(string) string { return "" }}.NewMeter()
		m.Plan(1, 100e6)
		transferAt(m, "a")
		fmt.Fprintln(m, "a message")
		m.End()
		if b.String() != "a message\n" {
			t.Errorf("expected the message alone, got %q", b.String())
		}
	})
}

// A meter ends when all that was announced is done, and not between two files.
func TestMeterEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, s := onScreen(t, 80)
		m.Plan(2, 20)
		m.Show("a", 10, 0)
		time.Sleep(2 * time.Second)
		m.Show("a", 10, 5)
		m.Show("a", 10, 10)
		if s.text() == "" {
			t.Fatal("expected it to wait for the other file")
		}
		m.Show("b", 10, 3)
		m.Show("b", 10, 1) // a part has to come again
		time.Sleep(time.Second)
		m.Show("b", 10, 10)
		if s.text() != "" || len(m.files) > 0 || m.plannedBytes != 0 {
			t.Errorf("expected it over, got %q, %+v", s.text(), m)
		}
		m.Plan(1, 1) // is used again
		m.End()
		m.End()
	})
}

func TestMeterOnATerminal(t *testing.T) {
	for term, want := range map[string]string{"": "one", "dumb": ""} {
		screen, tty := testworld.NewTerminal(t, 100)
		m := Streams{Err: tty, Getenv: func(name string) string { return map[string]string{"TERM": term}[name] }}.NewMeter()
		m.began = time.Now().Add(-time.Minute)
		m.drawn = m.began
		shown := make(chan string, 1)
		go func() {
			b, _ := io.ReadAll(screen) // it ends with the error of a terminal without a user
			shown <- string(b)
		}()
		m.Show("one", 60e6, 0)
		m.drawn = m.began
		m.Show("one", 60e6, 30e6)
		fmt.Fprintln(m, "a message")
		m.End()
		if err := tty.Close(); err != nil {
			t.Fatal(err)
		}
		text := <-shown
		if !strings.Contains(text, want) || !strings.Contains(text, "a message\r\n") {
			t.Errorf("TERM=%q: expected %q and a message in\n%q", term, want, text)
		}
		if rate := regexp.MustCompile(`one  30\.0 MB of 60\.0 MB  [1-9]\d*\.\d kB/s  1m0s left`); (want != "") != rate.MatchString(text) {
			t.Errorf("TERM=%q: %q", term, text)
		}
	}
}

// TestMeterShowsWaits: a person who sees nothing happen learns after two seconds what is waited for.
func TestMeterShowsWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, s := onScreen(t, 80)
		m.Wait("a short wait")()
		end := m.Wait("asking http://updates.example\x1b[2J")
		time.Sleep(1900 * time.Millisecond)
		synctest.Wait() // the timer has drawn
		if line, _, _ := s.shown(); line != "" {
			t.Errorf("expected nothing before two seconds, got %q", line)
		}
		second := m.Wait("opening K/release.pem")
		time.Sleep(3500 * time.Millisecond)
		synctest.Wait() // the timer has drawn
		want := `asking http://updates.example\x1b[2J  5 s`
		if line, _, _ := s.shown(); line != want {
			t.Errorf("expected %q, got %q", want, line)
		}
		fmt.Fprintln(m, "a message")
		end()
		time.Sleep(time.Second)
		synctest.Wait() // the timer has drawn
		line, above, _ := s.shown()
		if want := "opening K/release.pem  4 s"; line != want || len(above) != 1 || above[0] != "a message" {
			t.Errorf("expected %q below the message, got %q below %q", want, line, above)
		}
		second()
		if line, _, _ := s.shown(); line != "" {
			t.Errorf("expected no line, got %q", line)
		}
	})
}

// TestMeterPrefersProgress: what is waited for is shown only while a transfer stands still.
func TestMeterPrefersProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, s := onScreen(t, 80)
		m.Plan(1, 100e6)
		end := m.Wait("asking http://updates.example")
		transferAt(m, "p-7.tar.bz2")
		synctest.Wait()
		line, _, seen := s.shown()
		if strings.Contains(strings.Join(seen, "\n"), "asking") || !strings.HasPrefix(line, "p-7.tar.bz2  60.0 MB") {
			t.Errorf("expected the progress alone, got %q", seen)
		}
		time.Sleep(3 * time.Second)
		synctest.Wait() // the timer has drawn
		if line, _, _ := s.shown(); !strings.HasPrefix(line, "asking http://updates.example  4") {
			t.Errorf("expected what is waited for, got %q", line)
		}
		end()
		m.End()
		if line, _, _ := s.shown(); line != "" {
			t.Errorf("expected no line, got %q", line)
		}
	})
}

func TestMeterIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, s := onScreen(t, 80)
		m.silent = func() bool { return true }
		end := m.Wait("asking http://updates.example")
		transferAt(m, "p-7.tar.bz2")
		synctest.Wait()
		end()
		if _, _, seen := s.shown(); len(seen) > 0 {
			t.Errorf("expected nothing, got %q", seen)
		}
	})
}
