package testworld

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// NewTerminal opens a terminal of 24 rows and so many columns. What is written to tty appears on screen, and what is
// written to screen is typed. Both are closed when the test ends.
func NewTerminal(t testing.TB, columns uint16) (screen, tty *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { screen.Close() })
	fd := int(screen.Fd())
	n, err := unix.IoctlGetUint32(fd, unix.TIOCGPTN)
	err = errors.Join(err, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0),
		unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}))
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	return screen, tty
}

// A Session is a program that runs on a terminal of its own, in front of a person.
type Session struct {
	t      testing.TB
	cmd    *exec.Cmd
	screen *os.File
	ended  chan struct{} // closed when the screen is read to its end

	mu    sync.Mutex
	shown strings.Builder
	more  chan struct{} // closed and replaced whenever more is shown
}

// StartSession starts cmd on a terminal of 80 columns, which is its standard input, output and error, and its controlling
// terminal. The program is killed when the test ends.
func StartSession(t testing.TB, cmd *exec.Cmd) *Session {
	t.Helper()
	screen, tty := NewTerminal(t, 80)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	tty.Close() // the program alone has it now: the screen ends with the program
	s := &Session{t: t, cmd: cmd, screen: screen, ended: make(chan struct{}), more: make(chan struct{})}
	go s.read()
	return s
}

func (s *Session) read() {
	defer close(s.ended)
	b := make([]byte, 4096)
	for {
		n, err := s.screen.Read(b)
		s.mu.Lock()
		s.shown.Write(b[:n])
		close(s.more)
		s.more = make(chan struct{})
		s.mu.Unlock()
		if err != nil {
			return // EIO: no process has the terminal any more
		}
	}
}

// Await waits until text is shown after the first skip bytes, and returns how many bytes are shown until its end. It fails
// the test if the program ends before.
func (s *Session) Await(text string, skip int) (until int) {
	s.t.Helper()
	late := time.After(Patience)
	for {
		s.mu.Lock()
		shown, more := s.shown.String(), s.more
		s.mu.Unlock()
		if i := strings.Index(shown[min(skip, len(shown)):], text); i >= 0 {
			return skip + i + len(text)
		}
		select {
		case <-more:
		case <-s.ended:
			s.t.Fatalf("the program ended, and did not show %q:\n%s", text, shown)
		case <-late:
			s.t.Fatalf("expected %q, got\n%s", text, shown)
		}
	}
}

// Type types text, in which \r is the key Enter and \x03 is Ctrl-C.
func (s *Session) Type(text string) {
	s.t.Helper()
	if _, err := s.screen.WriteString(text); err != nil {
		s.t.Fatal(err)
	}
}

// Mode returns the local modes of the terminal, such as unix.ECHO.
func (s *Session) Mode() uint32 {
	s.t.Helper()
	settings, err := unix.IoctlGetTermios(int(s.screen.Fd()), unix.TCGETS)
	if err != nil {
		s.t.Fatal(err)
	}
	return settings.Lflag
}

// Wait waits until the program ends, and returns all that was shown, and the exit code.
func (s *Session) Wait() (shown string, code int) {
	s.t.Helper()
	select {
	case <-s.ended:
	case <-time.After(Patience):
		s.t.Fatalf("the program does not end:\n%s", s.shown.String())
	}
	s.cmd.Wait() // the exit code says how it ended
	return s.shown.String(), s.cmd.ProcessState.ExitCode()
}
