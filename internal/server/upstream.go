package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/mirror"
)

// copying are the settings of a mirror.
type copying struct {
	Upstream    []string        // base URLs, in the order in which they are asked; none: this is no mirror
	Root        string          // file of the pinned root; needed before the first sync alone
	Redirects   []string        // origins to which an upstream may redirect beside its own
	CAFile      string          // certificate authorities, PEM, instead of those of the system
	Interval    time.Duration   // from one sync to the next
	Patience    time.Duration   // how long a sync goes on without getting anything; 0: each upstream is asked once
	KeepNewest  int             // of how many versions of each product updates are kept; 0: of all
	KeepSince   time.Time       // from when on published updates are kept; zero: from ever
	OnDemand    mirror.OnDemand // what becomes of a request for an update that is not kept
	AcceptStale time.Duration   // for how long past its expiry a timestamp or snapshot is accepted
	MaxBytes    int64           // that the store may hold; 0: as many as fit
	Bandwidth   int64           // bytes per second from all upstreams together; 0: no cap
	Admin       string          // host:port of the admin listener; "": none
}

func defaultCopying() copying {
	return copying{Interval: 5 * time.Minute, Patience: 2 * time.Minute}
}

func (c *copying) fields() map[string]field {
	return map[string]field{
		"upstream":     {"the URL of a server, or a list of them", func(b json.RawMessage) error { return setURLs(&c.Upstream, b) }},
		"root":         {"the path of a root file such as 1.root.json", func(b json.RawMessage) error { return setString(&c.Root, b) }},
		"redirects":    {"the URL of a host, or a list of them", func(b json.RawMessage) error { return setURLs(&c.Redirects, b) }},
		"ca_file":      {"the path of a file of certificates", func(b json.RawMessage) error { return setString(&c.CAFile, b) }},
		"interval":     {`a duration such as "5m"`, func(b json.RawMessage) error { return setDuration(&c.Interval, b) }},
		"patience":     {`a duration such as "2m"`, func(b json.RawMessage) error { return setDuration(&c.Patience, b) }},
		"keep_newest":  {"a number of versions", func(b json.RawMessage) error { return json.Unmarshal(b, &c.KeepNewest) }},
		"keep_since":   {`a day such as "2026-01-31" or a time such as "2026-01-31T12:00:00Z"`, func(b json.RawMessage) error { return setTime(&c.KeepSince, b) }},
		"on_demand":    {`"fetch", "redirect" or "none"`, func(b json.RawMessage) error { return setOnDemand(&c.OnDemand, b) }},
		"accept_stale": {`a duration such as "72h"`, func(b json.RawMessage) error { return setDuration(&c.AcceptStale, b) }},
		"max_bytes":    {"a number of bytes", func(b json.RawMessage) error { return json.Unmarshal(b, &c.MaxBytes) }},
		"bandwidth":    {"a number of bytes per second", func(b json.RawMessage) error { return json.Unmarshal(b, &c.Bandwidth) }},
		"admin":        {`"host:port", or ":port" of the loopback interface`, func(b json.RawMessage) error { return setString(&c.Admin, b) }},
	}
}

// setURLs takes one URL or a list of them.
func setURLs(p *[]string, b json.RawMessage) error {
	var urls []string
	if err := json.Unmarshal(b, &urls); err != nil {
		var one string
		if err := setString(&one, b); err != nil {
			return err
		}
		urls = []string{one}
	}
	for _, text := range urls {
		u, err := url.Parse(text)
		if err != nil {
			return errors.New("not a URL") // the error quotes what may be a password
		}
		if u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return errors.New("neither http:// nor https://")
		}
	}
	*p = urls
	return nil
}

// maskedURLs returns URLs as they may be shown.
func maskedURLs(urls []string) []string {
	var out []string
	for _, u := range urls {
		out = append(out, cli.MaskURLs(u))
	}
	return out
}

func setTime(p *time.Time, b json.RawMessage) error {
	var text string
	if err := setString(&text, b); err != nil {
		return err
	}
	at, err := parseTime(text)
	if err != nil {
		return err
	}
	*p = at
	return nil
}

// parseTime parses a day, which begins at midnight UTC, or a time.
func parseTime(text string) (time.Time, error) {
	if at, err := time.Parse(time.DateOnly, text); err == nil {
		return at, nil
	}
	return time.Parse(time.RFC3339, text)
}

func setOnDemand(p *mirror.OnDemand, b json.RawMessage) error {
	var text string
	if err := setString(&text, b); err != nil {
		return err
	}
	switch o := mirror.OnDemand(text); {
	case text == "none":
		*p = mirror.OnDemandNone
	case o == mirror.OnDemandFetch, o == mirror.OnDemandRedirect:
		*p = o
	default:
		return errors.New("not known")
	}
	return nil
}

// check says what can't work.
func (c *copying) check() (problems []error) {
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if c.Interval < time.Second || c.Patience < 0 || c.AcceptStale < 0 {
		bad("interval must be at least 1s, patience and accept_stale not negative")
	}
	if c.KeepNewest < 0 || c.MaxBytes < 0 || c.Bandwidth < 0 {
		bad("keep_newest, max_bytes and bandwidth must not be negative")
	}
	if err := checkAddress(c.Admin); c.Admin != "" && err != nil {
		bad("admin %q: expected host:port: %w", c.Admin, err)
	}
	return problems
}

// adminAddress returns where the admin listener is: on the loopback interface where no host is given.
func (c *copying) adminAddress() string {
	host, port, err := net.SplitHostPort(c.Admin)
	if err != nil || host != "" {
		return c.Admin
	}
	return net.JoinHostPort("127.0.0.1", port)
}

// adminHost returns the host that the settings give the admin listener, "" for none.
func (c *copying) adminHost() string {
	host, _, err := net.SplitHostPort(c.Admin)
	if err != nil {
		return ""
	}
	return host
}

// shown returns the settings of a mirror as the JSON object that they can be given as.
func (c *copying) shown() map[string]any {
	m := map[string]any{}
	if len(c.Upstream) > 0 {
		m["upstream"], m["interval"], m["patience"] = c.Upstream, c.Interval.String(), c.Patience.String()
	}
	if len(c.Redirects) > 0 {
		m["redirects"] = c.Redirects
	}
	for key, text := range map[string]string{"root": c.Root, "ca_file": c.CAFile, "on_demand": string(c.OnDemand), "admin": c.Admin} {
		if text != "" {
			m[key] = text
		}
	}
	for key, n := range map[string]int64{"keep_newest": int64(c.KeepNewest), "max_bytes": c.MaxBytes, "bandwidth": c.Bandwidth} {
		if n != 0 {
			m[key] = n
		}
	}
	if !c.KeepSince.IsZero() {
		m["keep_since"] = c.KeepSince.Format(time.RFC3339)
	}
	if c.AcceptStale != 0 {
		m["accept_stale"] = c.AcceptStale.String()
	}
	return m
}

// savedName is the file of a data directory in which a mirror writes down its settings, for the commands
// that look after the directory: they must know what is kept, and whom to ask.
const savedName = "settings.json"

// saveAdmin writes down where the server of a directory that is no mirror can be asked, and what it keeps, and
// leaves the rest as it is.
func (s settings) saveAdmin() error {
	saved := defaultSettings()
	_, err := saved.readFile(filepath.Join(s.DataDir, savedName))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if saved.Admin == s.Admin && saved.keeping == s.keeping {
		return nil
	}
	saved.DataDir, saved.Admin, saved.keeping = s.DataDir, s.Admin, s.keeping
	return saved.save()
}

// save writes down the settings of a mirror.
func (s settings) save() error {
	for _, path := range []*string{&s.Root, &s.CAFile} {
		if *path == "" {
			continue
		}
		abs, err := filepath.Abs(*path)
		if err != nil {
			return err
		}
		*path = abs
	}
	b, err := json.MarshalIndent(s.saved(), "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(s.DataDir, savedName)
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, append(b, '\n')) {
		return nil
	}
	return disk.FS{}.WriteFile(path, append(b, '\n'), 0o600) // a URL may hold a password
}
