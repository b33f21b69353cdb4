package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/status"
)

// run runs a small program and returns its exit code and what it wrote.
func run(t *testing.T, fail error, args ...string) (code int, out, errs string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	s := cli.Streams{
		In:     strings.NewReader(""),
		Out:    &stdout,
		Err:    &stderr,
		Getenv: func(string) string { return "" },
		Now:    func() time.Time { return time.Unix(1550190683, 0) },
	}
	code = Run(context.Background(), "prog", program(s, fail), args, s)
	return code, stdout.String(), stderr.String()
}

func program(s cli.Streams, fail error) *cobra.Command {
	root := &cobra.Command{Use: "prog", Short: "A program"}
	build := &cobra.Command{
		Use:  "build DIR",
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if fail == nil {
				fmt.Fprintln(s.Out, "built", args[0])
			}
			return fail
		},
	}
	build.Flags().Int("level", 0, "")
	key := &cobra.Command{Use: "key", Short: "Keys"}
	key.AddCommand(&cobra.Command{Use: "list", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error { return nil }})
	root.AddCommand(build, key)
	return root
}

func TestRun(t *testing.T) {
	broken := errors.New("disk: broken")
	for _, c := range []struct {
		name string
		fail error
		args string
		code int
		out  string
		errs string
	}{
		{"done", nil, "build d", 0, "built d\n", ""},
		{"done in a group", nil, "key list", 0, "", ""},
		{"failed", broken, "build d", 1, "", "prog: disk: broken\n"},
		{"two lines", errors.Join(broken, io.ErrUnexpectedEOF), "build d", 1, "", "prog: disk: broken\nprog: unexpected EOF\n"},
		{"hint", status.WithHint(broken, "buy another"), "build d", 1, "", "prog: disk: broken\nprog: hint: buy another\n"},
		{"wrapped hint", fmt.Errorf("build: %w", status.WithHint(broken, "buy another")), "build d", 1, "", "prog: build: disk: broken\nprog: hint: buy another\n"},
		{"own code", status.WithHint(status.WithCode(broken, 10), "wait"), "build d", 10, "", "prog: disk: broken\nprog: hint: wait\n"},
		{"a result by its code", cli.Exit(10), "build d", 10, "", ""},
		{"usage of its own", status.Usagef("bad %s", "name"), "build d", 2, "", "prog: bad name\nprog: hint: see prog build --help\n"},
		{"interrupted", fmt.Errorf("read: %w", context.Canceled), "build d", 1, "", "prog: interrupted\n"},
		{"control characters", errors.New("entry \x1b[2J\u202e\xff"), "build d", 1, "", "prog: entry \\x1b[2J\\u202e\\xff\n"},
		{"no command", nil, "", 2, "", "prog: missing command for \"prog\"\nprog: hint: see prog --help\n"},
		{"no command in a group", nil, "key", 2, "", "prog: missing command for \"prog key\"\nprog: hint: see prog key --help\n"},
		{"unknown command", nil, "buildd", 2, "", "prog: unknown command \"buildd\" for \"prog\"\nprog: hint: did you mean build?\n"},
		{"unknown command in a group", nil, "key zzzzzz", 2, "", "prog: unknown command \"zzzzzz\" for \"prog key\"\nprog: hint: see prog key --help\n"},
		{"unknown flag", nil, "build --fast", 2, "", "prog: unknown flag: --fast\nprog: hint: see prog build --help\n"},
		{"bad flag", nil, "build --level x d", 2, "", "prog: --level: expected a whole number, got \"x\"\nprog: hint: see prog build --help\n"},
		{"too few arguments", nil, "build", 2, "", "prog: build: expected DIR, got nothing\nprog: hint: see prog build --help\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, out, errs := run(t, c.fail, strings.Fields(c.args)...)
			if code != c.code || out != c.out || errs != c.errs {
				t.Errorf("got code %d, stdout %q, stderr %q\nwant code %d, stdout %q, stderr %q", code, out, errs, c.code, c.out, c.errs)
			}
		})
	}
}

func TestHelpIsAResult(t *testing.T) {
	code, out, errs := run(t, nil, "--help")
	if code != status.ExitDone || errs != "" || !strings.Contains(out, "build") {
		t.Errorf("got code %d, stdout %q, stderr %q; want the help on stdout", code, out, errs)
	}
}

// Only Ctrl-C, and only a command that it ended, has exit code 130.
func TestCtrlC(t *testing.T) {
	interrupted, cancel := context.WithCancelCause(t.Context())
	cancel(status.ErrInterrupted)
	ended, cancel := context.WithCancelCause(t.Context())
	cancel(nil)
	for _, c := range []struct {
		name string
		ctx  context.Context
		fail error
		code int
	}{
		{"Ctrl-C", interrupted, fmt.Errorf("read: %w", context.Canceled), 130},
		{"Ctrl-C, by its cause", interrupted, fmt.Errorf("read: %w", context.Cause(interrupted)), 130},
		{"Ctrl-C that a terminal in raw mode types", t.Context(), fmt.Errorf("passphrase: %w", status.ErrInterrupted), 130},
		{"SIGTERM", ended, fmt.Errorf("read: %w", context.Canceled), 1},
		{"another fault at the same time", interrupted, errors.New("disk: broken"), 1},
		{"done in spite of it", interrupted, nil, 0},
	} {
		var out, errs bytes.Buffer
		s := cli.Streams{In: strings.NewReader(""), Out: &out, Err: &errs, Getenv: func(string) string { return "" }, Now: time.Now}
		if code := Run(c.ctx, "prog", program(s, c.fail), []string{"build", "d"}, s); code != c.code {
			t.Errorf("%s: got exit code %d, want %d; %s", c.name, code, c.code, &errs)
		}
	}
}

func TestVersion(t *testing.T) {
	for args, want := range map[string]string{
		"--version":      "prog version 1.2\n",
		"version":        "version: 1.2\nbuilt: 2019-02-15T01:24:43Z\ngo: " + runtime.Version() + "\nplatform: " + runtime.GOOS + "/" + runtime.GOARCH + "\n",
		"version --json": "{\n  \"version\": \"1.2\",\n  \"built\": \"2019-02-15T01:24:43Z\",\n  \"go\": \"" + runtime.Version() + "\",\n  \"platform\": \"" + runtime.GOOS + "/" + runtime.GOARCH + "\"\n}\n",
	} {
		var out, errs bytes.Buffer
		s := cli.Streams{In: strings.NewReader(""), Out: &out, Err: &errs, Getenv: func(string) string { return "" }, Now: time.Now}
		root := program(s, nil)
		AddVersion(root, s, "1.2", time.Unix(1550193883, 0))
		if code := Run(t.Context(), "prog", root, strings.Fields(args), s); code != 0 || out.String() != want || errs.Len() > 0 {
			t.Errorf("%s: got exit code %d, %q, %q; want %q", args, code, &out, &errs, want)
		}
	}
}

// The help of a program that has everything that help may show.
func TestHelp(t *testing.T) {
	root := &cobra.Command{Use: "prog [COMMAND]", Short: "Do things", Long: "Do things, of which there are so many that this sentence does not fit on one line\nof a terminal.\n\n  1  one\n\nExit codes:\n  0  done\n  10  " + strings.Repeat("word ", 20),
		Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error { return nil }}
	flags := root.PersistentFlags()
	flags.String("to", "", "send it to `HOST:PORT`")
	flags.Bool("fast", true, "be fast")
	flags.String("kind", "a", "kind of it: `a|b`")
	flags.String("lonely-and-long-name", "", "a flag whose name is `LONG` and whose text is long, too, so that it needs lines")
	flags.String("gone", "", "`X`")
	flags.Lookup("gone").Hidden = true
	GroupFlag(root, flags.Lookup("to"), "Where")
	GroupFlag(root, flags.Lookup("fast"), "How")
	GroupFlag(root, flags.Lookup("kind"), "Where")
	sub := &cobra.Command{Use: "sub FILE", Short: "Do one thing", Example: "  prog sub f", RunE: root.RunE}
	sub.Flags().StringP("output", "o", "", "write to `FILE`")
	Add(root, "Things", ShowFlags(sub, "to"))
	for want, cmd := range map[string]*cobra.Command{
		`Do things, of which there are so many that this sentence does not fit on one
line of a terminal.

  1  one

Usage: prog [COMMAND] [flags]

Examples:
  prog sub f

Things:
  sub          Do one thing

Flags:
  --lonely-and-long-name LONG
              A flag whose name is LONG and whose text is long, too, so that it
              needs lines

Where:
  --kind a|b      Kind of it (default a)
  --to HOST:PORT  Send it to HOST:PORT

How:
  --fast      Be fast (default true)

Exit codes:
  0  done
  10  word word word word word word word word word word word word word word word
      word word word word word
`: root,
		`Do one thing.

Usage: prog sub FILE [flags]

Examples:
  prog sub f

Flags:
  -o, --output FILE  Write to FILE
  --to HOST:PORT     Send it to HOST:PORT
`: sub,
	} {
		if got := Help(cmd); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
}

// A truth value may stand behind its flag, as when the flag needed one.
func TestTruths(t *testing.T) {
	for args, want := range map[string]string{
		"sub f": "true", "--fast sub f": "true", "sub --fast f": "true", "sub --fast=false f": "false", "sub --fast false f": "false",
		"--fast false sub f": "false", "sub --fast true f": "true", "sub f --fast false": "false", "sub --fast maybe": "true",
	} {
		root := &cobra.Command{Use: "prog"}
		fast := root.PersistentFlags().String("fast", "true", "be fast")
		root.PersistentFlags().Lookup("fast").NoOptDefVal = "true"
		root.AddCommand(&cobra.Command{Use: "sub FILE", Args: cobra.ExactArgs(1), RunE: func(*cobra.Command, []string) error { return nil }})
		var errs bytes.Buffer
		s := cli.Streams{In: strings.NewReader(""), Out: io.Discard, Err: &errs, Getenv: func(string) string { return "" }, Now: time.Now}
		if code := Run(t.Context(), "prog", root, strings.Fields(args), s); code != 0 || *fast != want {
			t.Errorf("%s: got %s, exit code %d, %s; want %s", args, *fast, code, &errs, want)
		}
	}
}
