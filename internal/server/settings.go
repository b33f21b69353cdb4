package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/settings"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/store"
)

// SettingsVariable holds the settings as one JSON object.
const SettingsVariable = "BOX_UPDATE_SERVER_SETTINGS"

// hintSettings says how settings are given.
const hintSettings = `set ` + SettingsVariable + `='{"port": 8151, "updates_dir": "/path/to/updates"}' or see --help`

// serving returns the settings of a server, and the keys that are not known.
func (p *Program) serving() (settings.Server, []string, error) {
	return p.load(settings.NewServer(), checkServing)
}

// data returns the settings of a command that looks after a data directory. Those that a mirror wrote
// down there are in force where no others are given.
func (p *Program) data() (settings.Server, error) {
	s, _, err := p.load(settings.NewServer(), checkData)
	if err != nil {
		return settings.Server{}, err
	}
	saved := settings.NewServer()
	if _, err := saved.Read(filepath.Join(s.DataDir, savedName)); errors.Is(err, os.ErrNotExist) {
		return s, nil
	} else if err != nil {
		return settings.Server{}, err
	}
	s, _, err = p.load(saved, checkData)
	return s, err
}

// load returns s with the settings that are given, and the keys that are not known. purpose says what can't work for what
// they are used for.
func (p *Program) load(s *settings.Server, purpose func(*settings.Server) []error) (_ settings.Server, unknown []string, err error) {
	env := p.Getenv(SettingsVariable)
	switch {
	case p.Config != "":
		unknown, err = s.Read(p.Config)
	case env != "":
		unknown, err = s.Parse(SettingsVariable, []byte(env))
	case len(p.Flags) == 0 && !p.OtherFlags && len(p.Upstreams) == 0:
		err = status.WithHint(errors.New("no settings: "+SettingsVariable+" is unset or empty"), hintSettings)
	}
	if err != nil {
		return settings.Server{}, nil, err
	}
	for _, one := range s.Settings() {
		text, given := p.Flags[one.Key]
		if !given {
			continue
		}
		texts := []string{text}
		if one.Expand {
			texts, err = p.URLs(texts)
		}
		if err == nil {
			err = one.SetText(texts...)
		}
		if err != nil {
			return settings.Server{}, nil, status.Usagef("--%s: %w", one.Flag(), err)
		}
	}
	if len(p.Upstreams) > 0 {
		if s.Upstream, err = p.URLs(p.Upstreams); err != nil {
			return settings.Server{}, nil, status.Usagef("%w", err)
		}
		for _, u := range s.Upstream {
			if _, err := settings.ParseURL(u); err != nil {
				return settings.Server{}, nil, status.Usagef("%s: expected the URL of a server: %w", strings.Join(p.Upstreams, " "), err)
			}
		}
	}
	if p.Mirrors && len(s.Upstream) == 0 {
		return settings.Server{}, nil, status.Usagef("no upstream: pass a URL or set upstream")
	}
	problems := append(purpose(s), s.Check()...)
	if len(problems) == 0 {
		return *s, unknown, nil
	}
	err = fmt.Errorf("settings: %w", errors.Join(problems...))
	return settings.Server{}, nil, status.WithDefaultHint(err, hintSettings)
}

// checkServing says what can't work for a server.
func checkServing(s *settings.Server) (problems []error) {
	bad := func(text string) { problems = append(problems, errors.New(text)) }
	if !s.Plain() && s.TLSListen == "" {
		bad("neither port nor listen is set")
	}
	if s.TLSRedirect && !s.Plain() {
		bad("tls_redirect: neither port nor listen is set, so nobody comes without TLS")
	}
	if len(s.ACMEDomains) > 0 && s.DataDir == "" {
		bad("acme_domains: certificates are kept in data_dir, which is not set")
	}
	return append(problems, checkDirs(s)...)
}

// checkAsked says what is missing to ask a server that runs with the settings.
func checkAsked(s *settings.Server) []error {
	if !s.Plain() && s.TLSListen == "" {
		return []error{errors.New("neither port nor listen is set: which server? name its URL")}
	}
	return nil
}

// checkData says what can't work for a command that looks after a data directory.
func checkData(s *settings.Server) []error {
	if s.DataDir == "" {
		return []error{status.Usagef("data_dir is not set: say --data-dir")}
	}
	return nil
}

// checkUnsigned says what can't work for taking archives into a plain directory.
func checkUnsigned(s *settings.Server) []error {
	if s.UpdatesDir == "" {
		return []error{status.Usagef("updates_dir is not set: say --updates-dir")}
	}
	if err := checkDir(s.UpdatesDir); err != nil {
		return []error{fmt.Errorf("updates_dir: %w", err)}
	}
	return nil
}

// checkDirs says what is wrong with the directories, and with the keys beside them.
func checkDirs(s *settings.Server) (problems []error) {
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
		if s.DataDir == "" {
			bad("upstream: a mirror needs data_dir")
		}
		if s.OnlineKey != "" {
			bad("upstream and online_key exclude each other: a mirror signs nothing")
		}
		if err := checkRoot(s, "sync", "the upstream"); err != nil {
			problems = append(problems, err)
		}
		return problems
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

// checkRoot refuses a directory of copies that nobody could vouch for. step and source say in a message what it is
// for, and who must not be asked for a root.
func checkRoot(s *settings.Server, step, source string) error {
	err := begun(s.DataDir)
	if s.Root != "" || err == nil {
		return nil
	}
	why := fmt.Errorf("root is not set: before the first %s it must be known whom to trust", step)
	if !errors.Is(err, trust.ErrNone) {
		why = fmt.Errorf("root is not set, and data_dir has none to trust: %w", err)
	}
	return status.WithHint(why, "take N.root.json from the people who sign, not from "+source)
}

// begun is store.Begun, for a data directory that may not be set.
func begun(dir string) error {
	if dir == "" {
		return trust.ErrNone
	}
	return store.Begun(dir)
}

// hasRepository reports whether a data directory holds a repository, or what is left of one: whoever opens that says
// what is lost.
func hasRepository(dir string) bool { return !errors.Is(begun(dir), trust.ErrNone) }

// savedName is the file of a data directory in which a server writes down its settings, for the commands
// that look after the directory: they must know what is kept, and whom to ask.
const savedName = "settings.json"

// saveKeeping writes down what the server of a directory that is no mirror keeps, and leaves the rest as it is.
func saveKeeping(s settings.Server) error {
	saved := settings.NewServer()
	_, err := saved.Read(filepath.Join(s.DataDir, savedName))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if saved.Keeping == s.Keeping {
		return nil
	}
	saved.DataDir, saved.Keeping = s.DataDir, s.Keeping
	return saveSettings(*saved)
}

// saveSettings writes down the settings of a mirror.
func saveSettings(s settings.Server) error {
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
	b, err := json.MarshalIndent(s.ShowSaved(), "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(s.DataDir, savedName)
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, append(b, '\n')) {
		return nil
	}
	return disk.FS{}.WriteFile(path, append(b, '\n'), 0o600) // a URL may hold a password
}
