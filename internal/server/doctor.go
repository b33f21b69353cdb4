package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/openpowerquality/box-update-server/internal/settings"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/store"
)

// A Finding is what one check found: a warning whose subject is the check, or that all is well. Text and Advice are each
// on one line.
type Finding struct {
	status.Warning
	OK bool // all is well; Text says what was found
}

// MarshalJSON writes check, level ("ok", "warning" or, if urgent, "wrong"), text and advice.
func (f Finding) MarshalJSON() ([]byte, error) {
	level := "warning"
	switch {
	case f.OK:
		level = "ok"
	case f.Urgent:
		level = "wrong"
	}
	return json.Marshal(struct {
		Check  string `json:"check"`
		Level  string `json:"level"`
		Text   string `json:"text"`
		Advice string `json:"advice,omitempty"`
	}{f.Subject, level, f.Text, f.Advice})
}

// Mark returns what stands before a finding in a list.
func (f Finding) Mark() string {
	if f.OK {
		return "[+]"
	}
	return f.Warning.Mark()
}

// Findings are what all checks found.
type Findings []Finding

// Verdict returns nil if nothing is wrong.
func (f Findings) Verdict() error {
	n := 0
	for _, one := range f {
		if one.Urgent {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d checks found something wrong", n, len(f))
}

func ok(check, format string, args ...any) Finding {
	return Finding{status.Warning{Subject: check, Text: fmt.Sprintf(format, args...)}, true}
}

// warning is about what will go wrong some day, or may be on purpose.
func warning(check, advice, format string, args ...any) Finding {
	return Finding{Warning: status.Warning{Subject: check, Text: fmt.Sprintf(format, args...), Advice: advice}}
}

func wrong(check, advice, format string, args ...any) Finding {
	f := warning(check, advice, format, args...)
	f.Urgent = true
	return f
}

// checked is what doctor examines. It only reads.
type checked struct {
	*Program
	settings settings.Server
	store    *store.Store     // nil: there is none, or it can't be read
	warnings []status.Warning // that every report gives on the repository
}

// Examine makes all checks that the settings allow.
func (p *Program) Examine(ctx context.Context) (found Findings) {
	s, unknown, err := p.examined()
	if err != nil {
		advice := "correct the settings; box-update-server config check says whether they can be used"
		if errors.Is(err, store.ErrNoRoot) { // no setting helps
			advice = strings.Join(status.Hints(err), "; ")
		}
		for line := range strings.Lines(err.Error()) {
			found = append(found, wrong("settings", advice,
				"%s", strings.TrimSpace(strings.TrimPrefix(line, "settings: "))))
		}
		return found
	}
	for _, key := range unknown {
		found = append(found, warning("settings", "is it misspelt? box-update-server serve --help lists all settings", "unknown setting %q is ignored", key))
	}
	for _, text := range settings.Ignored(s.Settings()) {
		found = append(found, warning("settings", "leave it out", "%s", text))
	}
	if len(found) == 0 {
		found = append(found, ok("settings", "can be used"))
	}
	c := &checked{Program: p, settings: s}
	for _, check := range []func(context.Context) []Finding{
		c.permissions, c.keys, c.disk, c.certificates, c.repository, c.clock, c.upstreams, c.server,
	} {
		found = append(found, check(ctx)...)
	}
	if c.store != nil {
		if err := c.store.Close(); err != nil {
			found = append(found, wrong("repository", "see the message", "%v", err))
		}
	}
	return found
}

// examined returns the settings of a server or, if none but data_dir say what to examine, those that a mirror saved there.
func (p *Program) examined() (settings.Server, []string, error) {
	given := func(key string) bool { _, ok := p.Flags[key]; return ok }
	if given("data_dir") && !given("listen") && !given("tls_listen") && p.Config == "" && p.Getenv(SettingsVariable) == "" {
		if saved, err := p.data(); err == nil && len(saved.Upstream) > 0 {
			return saved, nil, nil
		}
	}
	return p.serving()
}
