// Package cli holds what all commands of the project have in common: output, messages, questions and progress.
//
//   - Results go to standard output, one fact per line, or as JSON.
//   - Messages go to standard error as "prog: message", then "prog: hint: what to do". They begin
//     without a capital and end without a full stop.
//   - Colour is for terminals only, and NO_COLOR turns it off.
//   - Untrusted text (file names, archive entries, answers of servers) is shown with control characters escaped.
//   - Exit codes: 0 done, 1 failed, 2 usage, 130 interrupted by Ctrl-C. A command documents further ones.
//
// Package cmd/internal/command parses command lines and runs the commands.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/status"
)

// Streams is what a command uses of the outside world. Every field but Disk is required.
type Streams struct {
	In     io.Reader
	Out    io.Writer // results; see Silenceable
	Err    io.Writer // messages and progress
	Getenv func(string) string
	Now    func() time.Time
	Disk   disk.FS // the zero value is the file system as it is
}

// System returns the streams of this process.
func System() Streams {
	return Streams{In: os.Stdin, Out: Silenceable(os.Stdout), Err: os.Stderr, Getenv: os.Getenv, Now: time.Now}
}

// JSON writes v to Out as indented JSON with a newline at the end.
func (s Streams) JSON(v any) error {
	e := json.NewEncoder(s.Out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// Interactive reports whether In is a terminal, so that there is a person to ask.
func (s Streams) Interactive() bool { return isTerminal(s.In) }

func isTerminal(stream any) bool {
	f, ok := stream.(interface{ Fd() uintptr })
	return ok && term.IsTerminal(int(f.Fd()))
}

// Report writes the message of err and its hints to Err. It writes nothing for an error of Exit.
func (s Streams) Report(prog string, err error) {
	if errors.Is(err, errExit) {
		return
	}
	lead := prog + ":"
	if s.Colored(s.Err) {
		lead = boldRed + lead + plain
	}
	message := err.Error()
	if errors.Is(err, context.Canceled) {
		message = "interrupted"
		if isTerminal(s.Err) {
			fmt.Fprintln(s.Err) // the terminal shows ^C, perhaps behind a question
		}
	}
	for line := range strings.Lines(message) {
		fmt.Fprintf(s.Err, "%s %s\n", lead, Printable(strings.TrimSuffix(line, "\n")))
	}
	for _, hint := range status.Hints(err) {
		fmt.Fprintf(s.Err, "%s hint: %s\n", lead, Printable(hint))
	}
}
