package server

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/internal/settings"
	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/status"
)

// codeNoAnswer is the exit code of health if no server answers.
const codeNoAnswer = 3

// HealthOptions say how a server is asked.
type HealthOptions struct {
	URL     string        // of the server; "": the one on this machine that runs with the same settings
	Live    bool          // ask only whether it answers
	Timeout time.Duration // how long to wait for the answer
}

// HealthReport is the answer of a server.
type HealthReport struct {
	Server string   `json:"server"` // its URL
	OK     bool     `json:"ok"`     // it is ready, or with HealthOptions.Live it answers, and nothing is urgent
	Checks []string `json:"checks"` // what it found, one per line; [-] is urgent, [!] needs attention some day
}

// Health asks a running server whether it is ready, and returns its answer beside the verdict.
func (p *Program) Health(ctx context.Context, o HealthOptions) (report HealthReport, err error) {
	base, client := strings.TrimRight(o.URL, "/"), &http.Client{}
	if o.URL == "" {
		s, _, err := p.load(settings.NewServer(), checkAsked)
		if err != nil {
			return HealthReport{}, err
		}
		base, client = serverURL(s.Asked()), ownClient()
	} else if err := fetch.CheckURL(o.URL); err != nil {
		return HealthReport{}, status.Usagef("%w", err)
	}
	client.Timeout = o.Timeout
	path := "/readyz?verbose"
	if o.Live {
		path = "/livez"
	}
	text, err := probe(ctx, client, base+path)
	report = HealthReport{Server: explain.MaskURLs(base), Checks: []string{}}
	for line := range strings.Lines(text) {
		report.Checks = append(report.Checks, strings.TrimSuffix(line, "\n"))
	}
	if _, silent := errors.AsType[noAnswer](err); silent {
		return report, status.WithCode(err, codeNoAnswer)
	}
	if wrong := urgentLines(text); err == nil && !o.Live && len(wrong) > 0 {
		return report, status.WithCode(errors.New(cli.Printable(wrong[0])), codeNotInOrder)
	}
	report.OK = err == nil
	return report, err
}

// urgentLines returns the urgent warnings of an answer to /readyz?verbose.
func urgentLines(text string) (out []string) {
	for line := range strings.Lines(text) {
		if problem, urgent := strings.CutPrefix(strings.TrimSpace(line), status.UrgentMark+" "); urgent {
			out = append(out, problem)
		}
	}
	return out
}
