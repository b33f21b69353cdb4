package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// plain returns a meter that writes to no terminal, and what it wrote.
func plain() (*Meter, *bytes.Buffer) {
	var b bytes.Buffer
	return Streams{Err: &b, Getenv: func(string) string { return "" }}.NewMeter(), &b
}

func TestMeterWritesPlainLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, out := plain()
		m.Plan(300e6)
		m.Show("a", 100e6, 20e6) // was there before
		for i := range 40 {
			time.Sleep(time.Second)
			m.Show("a", 100e6, 20e6+int64(i+1)*1e6)
		}
		fmt.Fprintln(m, "a message")
		m.End()
		line := regexp.MustCompile(`(?m)^a +\d+\.\d MB of 100\.0 MB +1\.0 MB/s +(1m)?\d+s left$`)
		all := regexp.MustCompile(`(?m)^in all +\d+\.\d MB of 300\.0 MB +1\.0 MB/s +4m\d+s left$`)
		text := out.String()
		if n := len(line.FindAllString(text, -1)); n < 3 || n > 5 {
			t.Errorf("expected a line every ten seconds, got %d\n%s", n, text)
		}
		if len(all.FindAllString(text, -1)) < 3 {
			t.Errorf("expected lines of all files\n%s", text)
		}
		if !strings.Contains(text, "\na message\n") || strings.Contains(text, "\x1b") {
			t.Errorf("expected a message and no escape sequence\n%q", text)
		}
	})
}

func TestMeterIsQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, out := plain()
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
		if out.Len() > 0 {
			t.Errorf("expected nothing, got %q", out)
		}
	})
}

// Of many small files the line of all together is shown, and none of its own.
func TestMeterSumsUpSmallFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, out := plain()
		m.Plan(10e6)
		for i := range 30 {
			name := fmt.Sprintf("small-%d", i)
			m.Show(name, 100e3, 50e3)
			time.Sleep(500 * time.Millisecond)
			m.Show(name, 100e3, 100e3)
		}
		m.End()
		if all := regexp.MustCompile(`(?m)^in all +\d+\.\d MB of 10\.0 MB `); !all.MatchString(out.String()) {
			t.Errorf("expected a line of all files, got %q", out)
		}
		if strings.Contains(out.String(), "small-") {
			t.Errorf("expected no lines of files that took half a second, got %q", out)
		}
		if !strings.Contains(out.String(), "3.0 MB of 10.0 MB") {
			t.Errorf("expected all files counted at the end, got %q", out)
		}
	})
}

// A meter ends when all that was announced is done, and not between two files.
func TestMeterEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := plain()
		m.Plan(20)
		m.Show("a", 10, 0)
		time.Sleep(2 * time.Second)
		m.Show("a", 10, 5)
		m.Show("a", 10, 10)
		if m.bars == nil {
			t.Fatal("expected it to wait for the other file")
		}
		m.Show("b", 10, 3)
		m.Show("b", 10, 1) // a part has to come again
		time.Sleep(time.Second)
		m.Show("b", 10, 10)
		if m.bars != nil || m.want != 0 {
			t.Errorf("expected it over, got %+v", m)
		}
		m.Plan(1) // is used again
		m.End()
		m.End()
	})
}

// terminal opens a terminal of 100 columns and returns its two ends.
func terminal(t *testing.T) (screen, tty *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { screen.Close() })
	fd := int(screen.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetUint32(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 100}); err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return screen, tty
}

func TestMeterOnATerminal(t *testing.T) {
	screen, tty := terminal(t)
	m := Streams{Err: tty, Getenv: func(string) string { return "" }}.NewMeter()
	m.quiet, m.every = 0, time.Millisecond
	shown := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(screen) // it ends with the error of a terminal without a user
		shown <- string(b)
	}()
	m.Plan(100e6)
	for i := range 50 {
		m.Show("one\x1b[2J", 60e6, int64(i)*1e6)
		m.Show("two", 40e6, min(40e6, int64(i)*1e6))
		if i == 25 {
			fmt.Fprintln(m, "a message")
		}
	}
	m.End()
	if err := tty.Close(); err != nil {
		t.Fatal(err)
	}
	text := <-shown
	for _, want := range []string{`one\x1b[2J`, "two", "in all", "left", "a message\r\n", "89.0 MB of 100.0 MB", "\x1b["} {
		if !strings.Contains(text, want) {
			t.Errorf("expected %q in\n%q", want, text)
		}
	}
	// How fast it came is for the machine to say.
	if !regexp.MustCompile(`[1-9][0-9]*\.[0-9] [kMGT]B/s`).MatchString(text) {
		t.Errorf("expected a rate in\n%q", text)
	}
	if strings.Contains(text, "\x1b[2J") {
		t.Errorf("a name cleared the screen: %q", text)
	}
	end := text[strings.LastIndex(text, "\x1b[J")+len("\x1b[J"):]
	if !strings.HasPrefix(end, "in all") || strings.Contains(end, "two") {
		t.Errorf("expected the line of all files to stay alone, got %q", end)
	}
}
