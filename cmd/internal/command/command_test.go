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
