package secret

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/openpowerquality/box-update-server/status"
)

// maxPassphrase bounds a passphrase in bytes.
const maxPassphrase = 4096

// ErrNoTerminal says that no person can be asked for a passphrase.
var ErrNoTerminal = errors.New("no terminal to ask on")

// errDiffer says that a person typed two passphrases where one was to be typed twice.
var errDiffer = errors.New("the two passphrases differ")

// maxTries bounds how often a person is asked for one passphrase.
const maxTries = 3

// Request says which passphrase a Source is asked for.
type Request struct {
	Purpose string // names what the passphrase protects, such as the key file
	New     bool   // it is a new passphrase, so that a person is asked twice

	// Refused says why the passphrase that the same Source gave before is not good. It is nil at first. A Source that has
	// no other passphrase returns this error.
	Refused error
}

// Source returns a passphrase. The caller may overwrite the bytes.
type Source func(context.Context, Request) ([]byte, error)

// Passphrase is where a passphrase comes from, and what a new one must be. Its zero value has none.
type Passphrase struct {
	From Source

	// Judge refuses a new passphrase that is too weak. Nil: any is taken. It doesn't judge the passphrase of what exists.
	Judge func(passphrase []byte) error
}

// Choose returns the new passphrase for what purpose names. It refuses an empty one, which would protect nothing, one longer
// than 4096 bytes, and one that Judge refuses. The caller may overwrite the bytes.
func (p Passphrase) Choose(ctx context.Context, purpose string) (chosen []byte, err error) {
	err = p.tryPassphrases(ctx, Request{Purpose: purpose, New: true}, func(passphrase []byte) error {
		if p.Judge != nil {
			if err := p.Judge(passphrase); err != nil {
				return fmt.Errorf("passphrase for %s: %w", purpose, err)
			}
		}
		chosen = bytes.Clone(passphrase)
		return nil
	})
	return chosen, err
}

// Open calls open with the passphrase of what purpose names. As long as open returns ErrPassphrase and the Source has another
// one, Open tries that, up to three in all.
func (p Passphrase) Open(ctx context.Context, purpose string, open func(passphrase []byte) error) error {
	return p.tryPassphrases(ctx, Request{Purpose: purpose}, open)
}

// tryPassphrases asks for a passphrase until use takes it, the Source has no other one, or maxTries are over.
func (p Passphrase) tryPassphrases(ctx context.Context, r Request, use func([]byte) error) error {
	for range maxTries {
		passphrase, err := p.From(ctx, r)
		switch {
		case err != nil && errors.Is(err, r.Refused):
			return r.Refused
		case errors.Is(err, errDiffer):
			r.Refused = fmt.Errorf("passphrase for %s: %w", r.Purpose, err)
			continue
		case err != nil:
			return fmt.Errorf("passphrase for %s: %w", r.Purpose, err)
		}
		err = checkLength(r.Purpose, passphrase)
		if err == nil {
			err = use(passphrase)
		}
		clear(passphrase)
		if err == nil || !r.New && !errors.Is(err, ErrPassphrase) {
			return err
		}
		r.Refused = err
	}
	return r.Refused
}

func checkLength(purpose string, passphrase []byte) error {
	switch n := len(passphrase); {
	case n == 0:
		return fmt.Errorf("passphrase for %s: expected one, got none", purpose)
	case n > maxPassphrase:
		return fmt.Errorf("passphrase for %s: expected at most %d bytes, got more", purpose, maxPassphrase)
	}
	return nil
}

// FromValue returns a value that is known already, such as that of an environment variable, as it is.
func FromValue(passphrase string) Source {
	return func(_ context.Context, r Request) ([]byte, error) { return []byte(passphrase), r.Refused }
}

// FromFile returns the content of a file, without the newline at its end, if there is one. It refuses a file that anyone but
// its owner can read or write.
func FromFile(path string) Source {
	return func(_ context.Context, r Request) ([]byte, error) {
		if r.Refused != nil {
			return nil, r.Refused
		}
		b, err := readPrivate(path, maxPassphrase+1)
		if err != nil {
			return nil, err
		}
		if n := len(b); n > 0 && b[n-1] == '\n' {
			b = b[:n-1]
		}
		if r.New && bytes.HasSuffix(b, []byte("\r")) {
			return nil, fmt.Errorf("%s: the line ends with CR LF, as Windows writes it, and nobody could type that: save it with LF alone", path)
		}
		return b, nil
	}
}

// FromTerminal asks on the terminal at path, by custom Terminal, without echo. It asks for a new passphrase twice. When ctx
// ends, the terminal is restored. The error is ErrNoTerminal if path can't be opened.
func FromTerminal(path string) Source {
	return func(ctx context.Context, r Request) (passphrase []byte, err error) {
		in, out, err := openTerminal(path)
		if err != nil {
			return nil, ErrNoTerminal
		}
		defer in.Close() // inRawMode has restored the mode
		defer out.Close()
		stop := context.AfterFunc(ctx, func() { in.SetReadDeadline(time.Unix(1, 0)) })
		defer stop()
		err = inRawMode(in, func() (err error) {
			passphrase, err = askPassphrase(struct {
				io.Reader
				io.Writer
			}{in, out}, r)
			return err
		})
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return passphrase, err
	}
}

// inRawMode calls talk with the terminal in raw mode, which has no echo.
func inRawMode(tty *os.File, talk func() error) (err error) {
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

// askPassphrase asks on a terminal in raw mode. First it shows why the passphrase before was refused, if one was.
func askPassphrase(tty io.ReadWriter, r Request) ([]byte, error) {
	k := &keyboard{ReadWriter: tty}
	k.terminal = term.NewTerminal(k, "")
	if r.Refused != nil {
		for _, text := range append([]string{r.Refused.Error()}, status.Hints(r.Refused)...) {
			if _, err := fmt.Fprintf(k.terminal, "%s\n", strings.Map(printable, text)); err != nil {
				return nil, err
			}
		}
	}
	first, err := k.line("Passphrase for " + r.Purpose + ": ")
	if err != nil || !r.New {
		return []byte(first), err
	}
	second, err := k.line("The same again: ")
	if err != nil {
		return nil, err
	}
	if first != second {
		return nil, errDiffer
	}
	return []byte(first), nil
}

// keyboard is a terminal in raw mode, which types Ctrl-C instead of sending SIGINT.
type keyboard struct {
	io.ReadWriter
	terminal    *term.Terminal
	interrupted bool // Ctrl-C was typed
}

// Read notes a Ctrl-C, which the terminal then reports as the end of the input. It reads single bytes, so that what is
// typed ahead stays for the next question.
func (k *keyboard) Read(p []byte) (int, error) {
	n, err := k.ReadWriter.Read(p[:min(len(p), 1)])
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
