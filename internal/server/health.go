package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
)

// codeNoAnswer is the exit code of health where no server answers.
const codeNoAnswer = 3

// wrongMark begins a line of /readyz?verbose that tells of something urgent.
const wrongMark = "[-] "

// healthOptions are the flags of health.
type healthOptions struct {
	live    bool
	timeout time.Duration
}

func healthCommand(l *loader) *cobra.Command {
	var o healthOptions
	cmd := &cobra.Command{
		Use:   "health [URL]",
		Short: "ask a running server whether it is ready",
		Long: "Asks a running server whether it is ready for requests, and prints what it checks: a directory that\n" +
			"can be read, a copy that has been synced and is not expired. Beside that it names what else is wrong:\n" +
			"[-] is urgent, [!] will want somebody some day. Without a URL it asks the server on this machine that\n" +
			"runs with the same settings.\n\n" +
			"Whoever restarts what isn't healthy should ask with --live, which says only whether the server\n" +
			"answers: a restart makes no stale mirror fresh, and interrupts its first sync.\n\n" +
			"Exit codes: 0 ready and in order, 1 not ready, 2 usage, 3 no answer, 4 ready, and something is wrong,\n" +
			"such as an archive that is lost.",
		Example: "  box-update-server health http://127.0.0.1:8151\n" +
			"  box-update-server health --live --config /etc/box-update-server/config.json",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return l.health(cmd, args, o) },
	}
	cmd.Flags().BoolVar(&o.live, "live", false, "ask only whether it answers")
	cmd.Flags().DurationVar(&o.timeout, "timeout", 5*time.Second, "how long to wait for the answer, a `duration`")
	return cmd
}

func (l *loader) health(cmd *cobra.Command, args []string, o healthOptions) error {
	if o.timeout <= 0 {
		return cli.Usagef("--timeout %v: expected more than 0s", o.timeout)
	}
	base, client, err := l.whomToAsk(cmd, args)
	if err != nil {
		return err
	}
	client.Timeout = o.timeout
	path := "/readyz?verbose"
	if o.live {
		path = "/livez"
	}
	text, err := probe(cmd.Context(), client, base+path)
	for line := range strings.Lines(text) {
		fmt.Fprintln(l.streams.Out, cli.Printable(strings.TrimSuffix(line, "\n")))
	}
	if _, silent := errors.AsType[noAnswer](err); silent {
		return cli.WithCode(err, codeNoAnswer)
	}
	if wrong := urgentLines(text); err == nil && !o.live && len(wrong) > 0 {
		return cli.WithCode(errors.New(cli.Printable(wrong[0])), codeNotInOrder)
	}
	return err
}

// urgentLines returns what an answer to /readyz?verbose says is wrong.
func urgentLines(text string) (out []string) {
	for line := range strings.Lines(text) {
		if problem, urgent := strings.CutPrefix(strings.TrimSpace(line), wrongMark); urgent {
			out = append(out, problem)
		}
	}
	return out
}

// whomToAsk returns the URL of a server, without a slash at its end, and how to reach it.
func (l *loader) whomToAsk(cmd *cobra.Command, args []string) (base string, client *http.Client, err error) {
	if len(args) == 0 {
		s, _, err := l.load(defaultSettings(), cmd.Flags(), (*settings).checkAsked)
		if err != nil {
			return "", nil, err
		}
		return serverURL(s.asked()), ownClient(), nil
	}
	u, err := url.Parse(args[0])
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return "", nil, cli.Usagef("%q: expected the URL of a server, such as http://127.0.0.1:8151", args[0])
	}
	return strings.TrimRight(u.String(), "/"), &http.Client{}, nil
}

// checkAsked says what is missing to ask a server that runs with the settings.
func (s *settings) checkAsked() []error {
	if !s.plain() && s.TLSListen == "" {
		return []error{errors.New("neither port nor listen is set: which server? name its URL")}
	}
	return nil
}
