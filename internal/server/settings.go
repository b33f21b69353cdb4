package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

// SettingsVariable holds the settings as one JSON object.
const SettingsVariable = "BOX_UPDATE_SERVER_SETTINGS"

// maxSettings bounds the settings, in bytes.
const maxSettings = 1 << 20

// settings are what an operator sets, as one JSON object in the environment or in a file. Flags
// override them. README.md explains each.
type settings struct {
	Port       int    // binds all interfaces; Listen overrides it
	Listen     string // host:port
	UpdatesDir string // read-only directory of archives
	DataDir    string // the server's own files, and the repository if there is one
	OnlineKey  string // file of the key that signs snapshot and timestamp; two while it is replaced
	// ClockChecked is when the operator looked, and found that the clock is right; zero: never.
	ClockChecked time.Time
	ReleaseKey   string // file of the public key that archives of UpdatesDir must be signed by
	// ServeUnsigned serves archives of UpdatesDir that the repository does not list.
	ServeUnsigned bool
	Product       update.Product // whose archives are served
	LogFormat     string         // "text" or "json"
	LogRequests   bool           // a line for each request
	Metrics       bool           // /metrics answers
	Drain         time.Duration  // how long running downloads may go on after SIGTERM
	IdleTimeout   time.Duration  // a connection without a request is closed after it
	StallWindow   time.Duration  // a download is cut when it was slower than MinRate for so long
	MinRate       int64          // bytes per second
	limiting
	securing
	copying
	keeping
}

func defaultSettings() settings {
	return settings{
		Product:     update.DefaultProduct,
		LogFormat:   "text",
		LogRequests: true,
		Metrics:     true,
		Drain:       30 * time.Second,
		IdleTimeout: 2 * time.Minute,
		StallWindow: time.Minute,
		MinRate:     64,
		limiting:    defaultLimiting(),
		securing:    defaultSecuring(),
		copying:     defaultCopying(),
		keeping:     defaultKeeping(),
	}
}

// A field is one setting that can be given in JSON: what it should be, for messages, and how it is set.
type field struct {
	want string
	set  func(json.RawMessage) error
}

func (s *settings) fields() map[string]field {
	all := s.copying.fields()
	maps.Copy(all, s.limiting.fields())
	maps.Copy(all, s.securing.fields())
	maps.Copy(all, s.keeping.fields())
	maps.Copy(all, map[string]field{
		"port":           {"a number from 1 to 65535", func(b json.RawMessage) error { return setPort(&s.Port, b) }},
		"listen":         {`"host:port"`, func(b json.RawMessage) error { return setString(&s.Listen, b) }},
		"updates_dir":    {"the path of a directory", func(b json.RawMessage) error { return setString(&s.UpdatesDir, b) }},
		"data_dir":       {"the path of a directory", func(b json.RawMessage) error { return setString(&s.DataDir, b) }},
		"online_key":     {"the path of a private key file", func(b json.RawMessage) error { return setString(&s.OnlineKey, b) }},
		"clock_checked":  {`a day such as "2026-01-31" or a time such as "2026-01-31T12:00:00Z"`, func(b json.RawMessage) error { return setTime(&s.ClockChecked, b) }},
		"release_key":    {"the path of a public key file", func(b json.RawMessage) error { return setString(&s.ReleaseKey, b) }},
		"serve_unsigned": {"true or false", func(b json.RawMessage) error { return json.Unmarshal(b, &s.ServeUnsigned) }},
		"product":        {`a product such as "opq-box-update"`, func(b json.RawMessage) error { return setProduct(&s.Product, b) }},
		"log_format":     {`"text" or "json"`, func(b json.RawMessage) error { return setString(&s.LogFormat, b) }},
		"log_requests":   {"true or false", func(b json.RawMessage) error { return json.Unmarshal(b, &s.LogRequests) }},
		"metrics":        {"true or false", func(b json.RawMessage) error { return json.Unmarshal(b, &s.Metrics) }},
		"drain":          {`a duration such as "30s"`, func(b json.RawMessage) error { return setDuration(&s.Drain, b) }},
		"idle_timeout":   {`a duration such as "2m"`, func(b json.RawMessage) error { return setDuration(&s.IdleTimeout, b) }},
		"stall_window":   {`a duration such as "1m"`, func(b json.RawMessage) error { return setDuration(&s.StallWindow, b) }},
		"min_rate":       {"a number of bytes per second", func(b json.RawMessage) error { return json.Unmarshal(b, &s.MinRate) }},
	})
	return all
}

// readJSON overrides s with the settings in b and returns the keys that are not known, which are
// tolerated. from names the source for messages.
func (s *settings) readJSON(from string, b []byte) (unknown []string, err error) {
	var object map[string]json.RawMessage
	err = json.Unmarshal(b, &object)
	if err != nil {
		return nil, fmt.Errorf("settings in %s: JSON: %w", from, explain.JSON(b, err))
	}
	if object == nil {
		return nil, fmt.Errorf("settings in %s: JSON: expected an object, got null", from)
	}
	fields := s.fields()
	for _, key := range slices.Sorted(maps.Keys(object)) {
		f, known := fields[key]
		if !known {
			unknown = append(unknown, key)
			continue
		}
		if value := object[key]; bytes.Equal(value, []byte("null")) || f.set(value) != nil {
			return nil, fmt.Errorf("settings in %s: %s: expected %s, got %s", from, key, f.want, explain.Clip(string(value), 80))
		}
	}
	return unknown, nil
}

func setPort(p *int, b json.RawMessage) error {
	n, err := strconv.ParseUint(string(b), 10, 16)
	if err != nil || n == 0 {
		return errors.New("not a port")
	}
	*p = int(n)
	return nil
}

func setString(p *string, b json.RawMessage) error {
	if err := json.Unmarshal(b, p); err != nil {
		return err
	}
	if *p == "" {
		return errors.New("empty")
	}
	return nil
}

func setProduct(p *update.Product, b json.RawMessage) error {
	var text string
	if err := setString(&text, b); err != nil {
		return err
	}
	product, err := update.ParseProduct(text)
	if err != nil {
		return err
	}
	*p = product
	return nil
}

func setDuration(p *time.Duration, b json.RawMessage) error {
	var text string
	if err := setString(&text, b); err != nil {
		return err
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return err
	}
	*p = d
	return nil
}

// readFile overrides s with the settings in a file.
func (s *settings) readFile(path string) (unknown []string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	defer f.Close() // opened for reading
	b, err := io.ReadAll(io.LimitReader(f, maxSettings+1))
	if err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	if len(b) > maxSettings {
		return nil, fmt.Errorf("settings in %s: over %d bytes", path, maxSettings)
	}
	return s.readJSON(path, b)
}

// address returns what to listen on.
func (s *settings) address() string {
	if s.Listen != "" {
		return s.Listen
	}
	return ":" + strconv.Itoa(s.Port)
}

// checkServing says what can't work for a server.
func (s *settings) checkServing() (problems []error) {
	if !s.plain() && s.TLSListen == "" {
		problems = append(problems, errors.New("neither port nor listen is set"))
	}
	return append(append(problems, s.checkSecure()...), s.checkDirs()...)
}

// checkData says what can't work for a command that looks after a data directory.
func (s *settings) checkData() []error {
	if s.DataDir == "" {
		return []error{cli.Usagef("data_dir is not set: say --data-dir")}
	}
	return nil
}

// checkUnsigned says what can't work for taking archives into a plain directory.
func (s *settings) checkUnsigned() []error {
	if s.UpdatesDir == "" {
		return []error{cli.Usagef("updates_dir is not set: say --updates-dir")}
	}
	if err := checkDir(s.UpdatesDir); err != nil {
		return []error{fmt.Errorf("updates_dir: %w", err)}
	}
	return nil
}

// check says what of the settings can't work, each problem with what to do. purpose says what can't for
// what they are used for. It looks at the directories but does not read them.
func (s *settings) check(purpose func(*settings) []error) error {
	problems := slices.Concat(purpose(s), s.limiting.check(), s.securing.check(), s.copying.check(), s.keeping.check())
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if err := checkAddress(s.Listen); s.Listen != "" && err != nil {
		bad("listen %q: expected host:port: %w", s.Listen, err)
	}
	if s.LogFormat != "text" && s.LogFormat != "json" {
		bad("log_format %q: expected \"text\" or \"json\"", s.LogFormat)
	}
	if s.IdleTimeout < time.Second || s.IdleTimeout > 24*time.Hour {
		bad("idle_timeout must be between 1s and 24h")
	}
	if s.Drain < 0 || s.StallWindow < time.Second || s.StallWindow > 24*time.Hour || s.MinRate < 1 || s.MinRate > maxMinRate {
		bad("drain must not be negative, stall_window between 1s and 24h, min_rate between 1 and %d", maxMinRate)
	}
	if len(problems) == 0 {
		return nil
	}
	err := fmt.Errorf("settings: %w", errors.Join(problems...))
	if errors.Is(err, store.ErrNoRoot) {
		return err // it says what to do, and no setting mends it
	}
	return status.WithDefaultHint(err,
		`set `+SettingsVariable+`='{"port": 8151, "updates_dir": "/path/to/updates"}' or see --help`)
}

// maxMinRate bounds min_rate, in bytes per second.
const maxMinRate = 1 << 30

func checkAddress(address string) error {
	_, port, err := net.SplitHostPort(address)
	var wrong *net.AddrError
	if errors.As(err, &wrong) {
		return errors.New(wrong.Err) // without the address, which the caller names
	}
	if err != nil {
		return err
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("port %q is no number from 0 to 65535", port)
	}
	return nil
}

// checkDirs says what is wrong with the directories, and with the keys beside them.
func (s *settings) checkDirs() (problems []error) {
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	for _, d := range []struct{ key, path string }{{"updates_dir", s.UpdatesDir}, {"data_dir", s.DataDir}} {
		err := checkDir(d.path)
		if d.path == s.DataDir && len(s.Upstream) > 0 && errors.Is(err, fs.ErrNotExist) {
			continue // a mirror makes it
		}
		if d.path != "" && err != nil {
			bad("%s: %w", d.key, err)
		}
	}
	if len(s.Upstream) > 0 {
		return append(problems, s.checkMirror()...)
	}
	damage := begun(s.DataDir)
	repository := !errors.Is(damage, trust.ErrNone) // or what is left of one
	switch {
	case repository && damage != nil:
		bad("data_dir: %w", damage)
	case repository:
	case s.DataDir != "" && s.UpdatesDir == "":
		problems = append(problems, status.WithHint(fmt.Errorf("data_dir: %s holds no repository, and updates_dir is not set", s.DataDir),
			"make a repository there with boxsign init --repo "+s.DataDir+", then publish into it with boxsign publish"))
	case s.UpdatesDir == "":
		bad("updates_dir is not set")
	}
	if s.OnlineKey != "" && !repository {
		bad("online_key: data_dir holds no repository that it could sign")
	}
	if s.ReleaseKey != "" && s.ServeUnsigned {
		bad("release_key and serve_unsigned exclude each other")
	}
	return problems
}

// checkMirror says what can't work for a mirror.
func (s *settings) checkMirror() (problems []error) {
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if s.DataDir == "" {
		bad("upstream: a mirror needs data_dir")
	}
	if s.OnlineKey != "" {
		bad("upstream and online_key exclude each other: a mirror signs nothing")
	}
	if err := s.checkRoot("sync", "the upstream"); err != nil {
		problems = append(problems, err)
	}
	return problems
}

func checkDir(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory", path)
	}
	return nil
}
