package server

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/internal/settings"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/store"
)

// A Level says how bad a finding is.
type Level string

const (
	LevelOK      Level = "ok"
	LevelWarning Level = "warning" // it will be wrong some day, or may be on purpose
	LevelWrong   Level = "wrong"
)

// A Finding is what one check found. Text and Advice are each on one line.
type Finding struct {
	Check  string `json:"check"`
	Level  Level  `json:"level"`
	Text   string `json:"text"`
	Advice string `json:"advice,omitempty"` // what to do; "" where all is well
}

func ok(check, format string, args ...any) Finding {
	return Finding{check, LevelOK, fmt.Sprintf(format, args...), ""}
}

func warning(check, advice, format string, args ...any) Finding {
	return Finding{check, LevelWarning, fmt.Sprintf(format, args...), advice}
}

func wrong(check, advice, format string, args ...any) Finding {
	return Finding{check, LevelWrong, fmt.Sprintf(format, args...), advice}
}

// checked is what is examined. All of it is only read.
type checked struct {
	settings settings.Server
	store    *store.Store // nil: there is none, or it can't be read
	now      func() time.Time
	version  string // of the program
	built    time.Time
}

// Examine makes all checks, as far as the settings let it.
func (p *Program) Examine(ctx context.Context) (found []Finding) {
	s, unknown, err := p.examined()
	if err != nil {
		advice := "correct the settings; box-update-server config check says whether they can be used"
		if errors.Is(err, store.ErrNoRoot) { // which no setting mends
			advice = strings.Join(status.Hints(err), "; ")
		}
		for line := range strings.Lines(err.Error()) {
			found = append(found, wrong("settings", advice,
				"%s", strings.TrimSpace(strings.TrimPrefix(line, "settings: "))))
		}
		return found
	}
	for _, key := range unknown {
		found = append(found, warning("settings", "is it misspelt? box-update-server --help lists what there is", "unknown setting %q is ignored", key))
	}
	for _, text := range settings.Ignored(s.Settings()) {
		found = append(found, warning("settings", "leave it out", "%s", text))
	}
	if len(found) == 0 {
		found = append(found, ok("settings", "can be used"))
	}
	c := &checked{settings: s, now: p.Now, version: p.Version, built: p.Built}
	for _, check := range []func(context.Context) []Finding{
		c.permissions, c.keys, c.disk, c.certificates, c.repository, c.expiry, c.clock, c.upstreams, c.server,
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

// examined returns the settings of a server or, where there is no address to listen on, those that a mirror
// wrote down in the data directory.
func (p *Program) examined() (settings.Server, []string, error) {
	given := func(key string) bool { _, ok := p.Flags[key]; return ok }
	if given("data_dir") && !given("listen") && !given("tls_listen") && p.Config == "" && p.Getenv(SettingsVariable) == "" {
		if saved, err := p.data(); err == nil && len(saved.Upstream) > 0 {
			return saved, nil, nil
		}
	}
	return p.serving()
}
