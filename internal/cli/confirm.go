package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/openpowerquality/box-update-server/status"
)

// ErrNotConfirmed says that a person did not agree, or that there was nobody to ask.
var ErrNotConfirmed = errors.New("not confirmed")

// Confirm asks question and reads the answer from In, which must be a terminal. It returns nil for "y" and "yes".
// The error is ErrNotConfirmed for every other answer and if In is not a terminal, and ctx.Err() if ctx ends
// before there is an answer.
func (s Streams) Confirm(ctx context.Context, question string) error {
	if !isTerminal(s.In) {
		return status.WithHint(fmt.Errorf("%w: there is no terminal to ask on", ErrNotConfirmed),
			"see what would change with --dry-run, then run the command with --yes")
	}
	fmt.Fprintf(s.Err, "%s [y/N] ", question)
	answer := make(chan string, 1)
	go func() { // a read of a terminal can't be cancelled: without an answer, this ends with the process
		line, err := bufio.NewReader(s.In).ReadString('\n')
		if err != nil {
			line = ""
		}
		answer <- line
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case line := <-answer:
		if a := strings.ToLower(strings.TrimSpace(line)); a != "y" && a != "yes" {
			return fmt.Errorf("%w: nothing was changed", ErrNotConfirmed)
		}
		return nil
	}
}

// Warn writes a warning to Err.
func (s Streams) Warn(prog, message string) {
	fmt.Fprintf(s.Err, "%s: warning: %s\n", prog, Printable(message))
}
