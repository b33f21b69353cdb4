package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/store"
)

func doctorCommand(l *loader) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "check everything that a server with these settings needs, and say what to do",
		Long: "Checks settings, permissions, keys, disk, certificates, the repository and what of it expires, the clock,\n" +
			"the upstreams of a mirror, and the server that runs with these settings, if there is one. Nothing is\n" +
			"changed. Who may do what depends on who asks: run it as the account that the server runs as.\n\n" +
			"Exit codes: 0 nothing is wrong, 1 something is, 2 usage.",
		Example: "  box-update-server doctor --config /etc/box-update-server/config.json\n" +
			"  box-update-server doctor --json --data-dir M",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			found := l.examine(cmd)
			if err := l.showFindings(found, asJSON); err != nil {
				return err
			}
			if n := countWrong(found); n > 0 {
				return fmt.Errorf("%d of %d checks found something wrong", n, len(found))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// A level says how bad a finding is.
type level string

const (
	levelOK      level = "ok"
	levelWarning level = "warning" // it will be wrong some day, or may be on purpose
	levelWrong   level = "wrong"
)

// A finding is what one check found. Text and Advice are each on one line.
type finding struct {
	Check  string `json:"check"`
	Level  level  `json:"level"`
	Text   string `json:"text"`
	Advice string `json:"advice,omitempty"` // what to do; "" where all is well
}

func ok(check, format string, args ...any) finding {
	return finding{check, levelOK, fmt.Sprintf(format, args...), ""}
}

func warning(check, advice, format string, args ...any) finding {
	return finding{check, levelWarning, fmt.Sprintf(format, args...), advice}
}

func wrong(check, advice, format string, args ...any) finding {
	return finding{check, levelWrong, fmt.Sprintf(format, args...), advice}
}

// A patient is what is examined. All of it is only read.
type patient struct {
	settings settings
	store    *store.Store // nil: there is none, or it can't be read
	now      func() time.Time
}

// examine makes all checks, as far as the settings let it.
func (l *loader) examine(cmd *cobra.Command) (found []finding) {
	s, unknown, err := l.examined(cmd)
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			found = append(found, wrong("settings", "correct the settings; box-update-server config check says whether they can be used",
				"%s", strings.TrimSpace(strings.TrimPrefix(line, "settings: "))))
		}
		return found
	}
	for _, key := range unknown {
		found = append(found, warning("settings", "is it misspelt? box-update-server --help lists what there is", "unknown setting %q is ignored", key))
	}
	if len(found) == 0 {
		found = append(found, ok("settings", "can be used"))
	}
	p := &patient{settings: s, now: l.streams.Now}
	ctx := cmd.Context()
	for _, check := range []func(context.Context) []finding{
		p.permissions, p.keys, p.disk, p.certificates, p.repository, p.expiry, p.clock, p.upstreams, p.server,
	} {
		found = append(found, check(ctx)...)
	}
	if p.store != nil {
		if err := p.store.Close(); err != nil {
			found = append(found, wrong("repository", "see the message", "%v", err))
		}
	}
	return found
}

// examined returns the settings of a server or, where there is no address to listen on, those that a mirror
// wrote down in the data directory.
func (l *loader) examined(cmd *cobra.Command) (settings, []string, error) {
	given := cmd.Flags().Changed
	if given("data-dir") && !given("listen") && !given("tls-listen") && l.config == "" && l.streams.Getenv(settingsVariable) == "" {
		if saved, err := l.data(cmd.Flags()); err == nil && len(saved.Upstream) > 0 {
			return saved, nil, nil
		}
	}
	return l.serving(cmd.Flags())
}

func countWrong(found []finding) (n int) {
	for _, f := range found {
		if f.Level == levelWrong {
			n++
		}
	}
	return n
}

func (l *loader) showFindings(found []finding, asJSON bool) error {
	if asJSON {
		return l.streams.JSON(found)
	}
	signs := map[level]string{levelOK: "[+]", levelWarning: "[!]", levelWrong: "[-]"}
	for _, f := range found {
		_, err := fmt.Fprintf(l.streams.Out, "%s %s: %s\n", signs[f.Level], f.Check, cli.Printable(f.Text))
		if f.Advice != "" {
			_, e := fmt.Fprintf(l.streams.Out, "    to do: %s\n", cli.Printable(f.Advice))
			err = errors.Join(err, e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
