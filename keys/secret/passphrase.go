package secret

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/openpowerquality/box-update-server/status"
)

// maxPassphrase bounds a passphrase in bytes.
const maxPassphrase = 4096

// ErrNoTerminal says that no person can be asked for a passphrase.
var ErrNoTerminal = errors.New("no terminal to ask on")

// Passphrase returns the passphrase for the key file that purpose names. If confirm is set, the passphrase is new, and a
// person is asked twice. The caller may overwrite the bytes.
type Passphrase func(ctx context.Context, purpose string, confirm bool) ([]byte, error)

// Ask calls p and refuses an empty passphrase, which would protect nothing, and one longer than 4096 bytes.
func (p Passphrase) Ask(ctx context.Context, purpose string, confirm bool) ([]byte, error) {
	passphrase, err := p(ctx, purpose, confirm)
	if err != nil {
		return nil, fmt.Errorf("passphrase for %s: %w", purpose, err)
	}
	if len(passphrase) == 0 {
		return nil, fmt.Errorf("passphrase for %s: expected one, got none", purpose)
	}
	if len(passphrase) > maxPassphrase {
		clear(passphrase)
		return nil, fmt.Errorf("passphrase for %s: expected at most %d bytes, got more", purpose, maxPassphrase)
	}
	return passphrase, nil
}

// FromValue returns a value that is known already, such as that of an environment variable, as it is.
func FromValue(passphrase string) Passphrase {
	return func(context.Context, string, bool) ([]byte, error) { return []byte(passphrase), nil }
}

// FromFile returns the content of a file, without the newline at its end, if there is one. It refuses a file that anyone but
// its owner can read or write.
func FromFile(path string) Passphrase {
	return func(context.Context, string, bool) ([]byte, error) {
		b, err := readPrivate(path, maxPassphrase+1)
		if err != nil {
			return nil, err
		}
		if n := len(b); n > 0 && b[n-1] == '\n' {
			b = b[:n-1]
		}
		return b, nil
	}
}

// FromTerminal asks on the terminal at path, by custom /dev/tty, without echo. It asks for a new passphrase twice. When ctx
// ends, the terminal is restored. The error is ErrNoTerminal if path can't be opened.
func FromTerminal(path string) Passphrase {
	return func(ctx context.Context, purpose string, confirm bool) (passphrase []byte, err error) {
		tty, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOCTTY, 0)
		if err != nil {
			return nil, ErrNoTerminal
		}
		defer func() { err = errors.Join(err, tty.Close()) }()
		stop := context.AfterFunc(ctx, func() { tty.SetReadDeadline(time.Unix(1, 0)) })
		defer stop()
		err = raw(tty, func() (err error) {
			passphrase, err = converse(tty, purpose, confirm)
			return err
		})
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return passphrase, err
	}
}

// raw calls talk with the terminal in raw mode, which has no echo.
func raw(tty *os.File, talk func() error) (err error) {
	conn, err := tty.SyscallConn() // after File.Fd, reads would have no deadlines
	if err != nil {
		return err
	}
	var state *term.State
	if ctlErr := conn.Control(func(fd uintptr) { state, err = term.MakeRaw(int(fd)) }); ctlErr != nil {
		return ctlErr
	}
	if err != nil {
		return fmt.Errorf("%s is no terminal: %w", tty.Name(), err)
	}
	defer func() {
		var restoreErr error
		ctlErr := conn.Control(func(fd uintptr) { restoreErr = term.Restore(int(fd), state) })
		err = errors.Join(err, ctlErr, restoreErr)
	}()
	return talk()
}

func converse(tty io.ReadWriter, purpose string, confirm bool) ([]byte, error) {
	k := &keyboard{ReadWriter: tty}
	k.terminal = term.NewTerminal(k, "")
	first, err := k.line("Passphrase for " + purpose + ": ")
	if err != nil || !confirm {
		return []byte(first), err
	}
	second, err := k.line("The same again: ")
	if err != nil {
		return nil, err
	}
	if first != second {
		return nil, errors.New("the two passphrases differ")
	}
	return []byte(first), nil
}

// keyboard is a terminal in raw mode, which types Ctrl-C instead of sending SIGINT.
type keyboard struct {
	io.ReadWriter
	terminal    *term.Terminal
	interrupted bool // Ctrl-C was typed
}

// Read notes a Ctrl-C, which the terminal then reports as the end of the input.
func (k *keyboard) Read(p []byte) (int, error) {
	n, err := k.ReadWriter.Read(p)
	k.interrupted = k.interrupted || bytes.IndexByte(p[:n], ctrlC) >= 0
	return n, err
}

const ctrlC = 3 // ETX

func (k *keyboard) line(prompt string) (string, error) {
	s, err := k.terminal.ReadPassword(strings.Map(printable, prompt))
	switch {
	case err != nil && k.interrupted:
		return "", status.ErrInterrupted
	case errors.Is(err, io.EOF):
		return "", errors.New("the input ended before a line did")
	case errors.Is(err, term.ErrPasteIndicator), err == nil:
		return s, nil
	}
	return "", err
}

// printable keeps the name of a file from controlling the terminal.
func printable(r rune) rune {
	if r < ' ' || r == 0x7f {
		return '?'
	}
	return r
}
