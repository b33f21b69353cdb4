package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/settings"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/store"
)

// SettingsVariable holds the settings as one JSON object.
const SettingsVariable = "BOX_UPDATE_SERVER_SETTINGS"

const hintSettings = `set ` + SettingsVariable + `='{"port": 8151, "updates_dir": "/path/to/updates"}' or see --help`

// serving returns the settings of a server, and the unknown keys.
func (p *Program) serving() (settings.Server, []string, error) {
	return p.load(settings.NewServer(), checkServing)
}

// data returns the settings of a command that looks after a data directory: those that are given, over those that the
// server of that directory saved there.
func (p *Program) data() (settings.Server, error) {
	given, _, err := p.load(settings.NewServer(), checkData)
	if err != nil {
		return settings.Server{}, err
	}
	saved := settings.NewServer()
	if _, err := saved.Read(filepath.Join(given.DataDir, savedName)); errors.Is(err, fs.ErrNotExist) {
		return given, nil
	} else if err != nil {
		return settings.Server{}, err
	}
	s, _, err := p.load(saved, checkData)
	return s, err
}

// load overrides s with the settings that are given: those of the file or else of the environment, and then those of
// flags. It returns the unknown keys. check returns what contradicts the purpose of the settings.
func (p *Program) load(s *settings.Server, check func(*settings.Server) []error) (_ settings.Server, unknown []string, err error) {
	env := p.Getenv(SettingsVariable)
	switch {
	case p.Config != "":
		unknown, err = s.Read(p.Config)
	case env != "":
		unknown, err = s.Parse(SettingsVariable, []byte(env))
	case len(p.Flags) == 0 && !p.OtherFlags:
		err = status.WithHint(errors.New("no settings: "+SettingsVariable+" is unset or empty"), hintSettings)
	}
	if err != nil {
		return settings.Server{}, nil, err
	}
	for _, one := range s.Settings() {
		texts, given := p.Flags[one.Key]
		if !given {
			continue
		}
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
	if p.Mirrors && len(s.Upstream) == 0 {
		return settings.Server{}, nil, status.Usagef("no upstream: pass a URL or set upstream")
	}
	if problems := append(check(s), s.Check()...); len(problems) > 0 {
		return settings.Server{}, nil, fmt.Errorf("settings: %w", errors.Join(problems...))
	}
	return *s, unknown, nil
}

// checkServing returns what keeps a server with these settings from serving.
func checkServing(s *settings.Server) (problems []error) {
	bad := func(text string) { problems = append(problems, errors.New(text)) }
	if !s.Plain() && s.TLSListen == "" {
		problems = append(problems, status.WithHint(errors.New("neither port nor listen is set"), "give --listen HOST:PORT"))
	}
	if s.TLSRedirect && !s.Plain() {
		bad("tls_redirect: neither port nor listen is set, so that there is no HTTP to redirect")
	}
	if len(s.ACMEDomains) > 0 && s.DataDir == "" {
		bad("acme_domains: certificates are kept in data_dir, which is not set")
	}
	return append(problems, checkDirs(s)...)
}

// checkAsked returns an error if the settings don't say where their server can be asked.
func checkAsked(s *settings.Server) []error {
	if !s.Plain() && s.TLSListen == "" {
		return []error{errors.New("neither port nor listen is set: pass the URL of the server")}
	}
	return nil
}

// checkData returns an error if there is no data directory to look after.
func checkData(s *settings.Server) []error {
	if s.DataDir == "" {
		return []error{status.Usagef("data_dir is not set: pass --data-dir")}
	}
	return nil
}

// checkUnsigned returns an error if there is no plain directory to import into.
func checkUnsigned(s *settings.Server) []error {
	if s.UpdatesDir == "" {
		return []error{status.Usagef("updates_dir is not set: pass --updates-dir")}
	}
	if err := checkDir("updates_dir", s.UpdatesDir); err != nil {
		return []error{err}
	}
	return nil
}

// checkDirs returns what is wrong with the directories, and with the keys that go with them.
func checkDirs(s *settings.Server) (problems []error) {
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	for _, d := range []struct{ key, path string }{{"updates_dir", s.UpdatesDir}, {"data_dir", s.DataDir}} {
		err := checkDir(d.key, d.path)
		if d.path == s.DataDir && len(s.Upstream) > 0 && errors.Is(err, fs.ErrNotExist) {
			continue // a mirror creates it
		}
		if d.path != "" && err != nil {
			problems = append(problems, err)
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
			bad("%w", err)
		}
		return problems
	}
	damage := begun(s.DataDir)
	repository := !errors.Is(damage, trust.ErrNone) // perhaps a damaged one
	switch {
	case repository && damage != nil:
		bad("data_dir: %w", damage)
	case repository:
	case s.DataDir != "" && s.UpdatesDir == "":
		problems = append(problems, status.WithHint(fmt.Errorf("data_dir: %s holds no repository, and updates_dir is not set", s.DataDir),
			"create a repository there with boxsign init --repo "+s.DataDir+", then publish to it with boxsign publish"))
	case s.UpdatesDir == "":
		problems = append(problems, status.WithHint(errors.New("updates_dir is not set"), "give --updates-dir DIRECTORY"))
	}
	if s.OnlineKey != "" && !repository {
		bad("online_key: data_dir holds no repository to sign")
	}
	if s.ReleaseKey != "" && s.ServeUnsigned {
		bad("release_key and serve_unsigned exclude each other")
	}
	return problems
}

// checkDir returns an error, with a hint, if the setting of that key does not name a directory.
func checkDir(key, path string) error {
	flag := "--" + settings.Setting{Key: key}.Flag()
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return status.WithHint(fmt.Errorf("%s: %w", key, err), "make the directory, or name another one with "+flag)
	case err != nil:
		return fmt.Errorf("%s: %w", key, err)
	case !info.IsDir():
		return status.WithHint(fmt.Errorf("%s: %s is not a directory", key, path), "name a directory with "+flag)
	}
	return nil
}

// checkRoot returns an error if there is no root to trust, neither in the settings nor in the data directory. step and
// source say in the message what needs the root, and where not to get it from.
func checkRoot(s *settings.Server, step, source string) error {
	err := begun(s.DataDir)
	if s.Root != "" || err == nil {
		return nil
	}
	why := fmt.Errorf("root is not set: the first %s needs a root to trust", step)
	if !errors.Is(err, trust.ErrNone) {
		why = fmt.Errorf("root is not set, and data_dir has none to trust: %w", err)
	}
	return status.WithHint(why, "get N.root.json from a release signer, not from "+source)
}

// begun is store.Begun, for a data directory that may not be set.
func begun(dir string) error {
	if dir == "" {
		return trust.ErrNone
	}
	return store.Begun(dir)
}

// hasRepository reports whether a data directory holds a repository, which may be damaged.
func hasRepository(dir string) bool { return !errors.Is(begun(dir), trust.ErrNone) }

// savedName is the file of a data directory in which its server saves settings, for the commands that look after the
// directory: they have to know what is kept, and which upstreams to ask.
const savedName = "settings.json"

// saveKeeping saves what the server of a directory that is no mirror keeps, and leaves other saved settings as they are.
func saveKeeping(s settings.Server) error {
	saved := settings.NewServer()
	_, err := saved.Read(filepath.Join(s.DataDir, savedName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if saved.Keeping == s.Keeping {
		return nil
	}
	saved.DataDir, saved.Keeping = s.DataDir, s.Keeping
	return saveSettings(*saved)
}

// saveSettings saves the settings of a mirror.
func saveSettings(s settings.Server) error {
	here, err := os.Getwd()
	if err != nil {
		return err
	}
	settings.Resolve(s.Saved(), here)
	b, err := json.MarshalIndent(settings.Show(s.Saved()), "", "  ")
	if err != nil {
		return err
	}
	b = append(b, '\n')
	path := filepath.Join(s.DataDir, savedName)
	if old, err := disk.ReadRegular(path, int64(len(b))); err == nil && bytes.Equal(old, b) {
		return nil
	}
	return disk.FS{}.WriteFile(path, b, 0o600) // a URL may hold a password
}
