package server

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/status"
)

// flags are the settings that can be given on the command line, by their JSON name.
var flags = []struct{ key, usage string }{
	{"listen", "address to listen on, `host:port`"},
	{"updates_dir", "read-only `directory` of archives to serve"},
	{"data_dir", "`directory` of the repository, or for the server's own files alone"},
	{"online_key", "`file` of the key that signs snapshot and timestamp"},
	{"clock_checked", "the clock is right: you looked on this `day`. For an origin that was off for over a month"},
	{"release_key", "`file` of the public key that archives of updates-dir must be signed by"},
	{"serve_unsigned", "serve archives of updates-dir that the repository does not list: `true` or false"},
	{"product", "serve archives of this `product`"},
	{"log_format", "log as `text` or json"},
	{"log_requests", "log each request: `true` or false"},
	{"metrics", "measure, and answer for /metrics: `true` or false"},
	{"drain", "how long downloads may go on after SIGTERM, a `duration`"},
	{"idle_timeout", "close a connection without a request after this `duration`"},
	{"stall_window", "cut a download that was slower than min-rate for this `duration`"},
	{"min_rate", "`bytes` per second"},
	{"max_downloads", "send so many archives at once, a `number`; 0: any"},
	{"max_bandwidth", "send so many `bytes` of archives per second, of all together; 0: any"},
	{"max_idle", "keep so many idle connections of one address, a `number`; 0: any"},
	{"trusted_proxies", "`address` or prefix of a reverse proxy, whose X-Forwarded-For says whose a request is"},
	{"tls_listen", "address to listen on with TLS, `host:port`"},
	{"tls_certificate", "`file` of the certificate, read again when it changes"},
	{"tls_key", "`file` of its private key"},
	{"tls_redirect", "send who comes without TLS to TLS: `true` or false"},
	{"hsts", "tell browsers to come with TLS only for this `duration`"},
	{"acme_domains", "obtain a certificate for this `domain`"},
	{"acme_directory", "`URL` of the directory of the authority that certificates come from"},
	{"acme_ca_file", "`file` of the certificate authorities of that URL"},
	{"acme_email", "`address` that the authority may write to"},
	{"upstream", "`URL` of the server to mirror, or @FILE or env:NAME with it"},
	{"root", "`file` of the root to trust before the first sync"},
	{"redirects", "`URL` of a host that an upstream may redirect to"},
	{"ca_file", "`file` of the certificate authorities of upstreams"},
	{"interval", "from one sync to the next, a `duration`"},
	{"patience", "give a sync up when nothing came for this `duration`"},
	{"keep_newest", "keep updates of this `number` of versions of each product"},
	{"keep_since", "keep updates that were published since this `day`"},
	{"on_demand", "`fetch`, redirect, or none: what becomes of a request for an update that is not kept"},
	{"accept_stale", "accept a timestamp that expired less than this `duration` ago"},
	{"max_bytes", "`bytes` that the repository may hold"},
	{"bandwidth", "`bytes` per second from all upstreams together"},
	{"keep_superseded", "serve metadata for this `duration` after newer ones replaced them"},
	{"scrub_every", "read all archives again, behind all else, within this `duration`; 0s: never"},
	{"admin", "`host:port` for POST /sync, /fsck and /gc; of the loopback interface without a host"},
}

// Flags returns what can be given in Program.Flags, in the order of the help.
func Flags() (out []Flag) {
	for _, f := range flags {
		out = append(out, Flag{f.key, flagName(f.key), f.usage})
	}
	return out
}

// A Flag is a setting that can be given on the command line.
type Flag struct{ Key, Name, Usage string }

func flagName(key string) string { return strings.ReplaceAll(key, "_", "-") }

// serving returns the settings of a server.
func (p *Program) serving() (settings, []string, error) {
	return p.load(defaultSettings(), (*settings).checkServing)
}

// syncing returns the settings of a mirror that does not listen.
func (p *Program) syncing() (settings, []string, error) {
	return p.load(defaultSettings(), (*settings).checkDirs)
}

// data returns the settings of a command that looks after a data directory. Those that a mirror wrote
// down there are in force where no others are given.
func (p *Program) data() (settings, error) {
	s, _, err := p.load(defaultSettings(), (*settings).checkData)
	if err != nil {
		return settings{}, err
	}
	saved := defaultSettings()
	if _, err := saved.readFile(filepath.Join(s.DataDir, savedName)); errors.Is(err, os.ErrNotExist) {
		return s, nil
	} else if err != nil {
		return settings{}, err
	}
	s, _, err = p.load(saved, (*settings).checkData)
	return s, err
}

// load returns s with the settings that are given, checked, and the keys that are not known.
func (p *Program) load(s settings, purpose func(*settings) []error) (settings, []string, error) {
	unknown, err := p.base(&s)
	if err != nil {
		return settings{}, nil, err
	}
	if err := s.override(p.Flags, p.Streams); err != nil {
		return settings{}, nil, err
	}
	if len(p.Upstreams) > 0 {
		urls, err := p.URLs(p.Upstreams)
		if err != nil {
			return settings{}, nil, cli.Usagef("%w", err)
		}
		b, err := json.Marshal(urls)
		if err != nil {
			return settings{}, nil, err
		}
		if err := setURLs(&s.Upstream, b); err != nil {
			return settings{}, nil, cli.Usagef("%s: expected the URL of a server: %w", strings.Join(p.Upstreams, " "), err)
		}
	}
	if p.Mirrors && len(s.Upstream) == 0 {
		return settings{}, nil, cli.Usagef("whom to mirror? name a URL, or set upstream")
	}
	if err := s.check(purpose); err != nil {
		return settings{}, nil, err
	}
	return s, unknown, nil
}

func (p *Program) base(s *settings) (unknown []string, err error) {
	env := p.Getenv(SettingsVariable)
	switch {
	case p.Config != "":
		return s.readFile(p.Config)
	case env != "":
		return s.readJSON(SettingsVariable, []byte(env))
	case len(p.Flags) > 0 || p.OtherFlags || len(p.Upstreams) > 0:
		return nil, nil
	}
	return nil, status.WithHint(errors.New("no settings: "+SettingsVariable+" is unset or empty"),
		`set `+SettingsVariable+`='{"port": 8151, "updates_dir": "/path/to/updates"}' or see --help`)
}

// override applies the flags that were given.
func (s *settings) override(given map[string]string, streams cli.Streams) error {
	fields := s.fields()
	for _, f := range flags {
		text, ok := given[f.key]
		if !ok {
			continue
		}
		var value any = text
		if f.key == "upstream" {
			urls, err := streams.URLs([]string{text})
			if err != nil {
				return cli.Usagef("--%s: %w", flagName(f.key), err)
			}
			value = urls
		}
		quoted, err := json.Marshal(value)
		if err != nil {
			return err
		}
		// A setting takes either a JSON string or a bare number or truth value.
		if fields[f.key].set(quoted) != nil && fields[f.key].set(json.RawMessage(text)) != nil {
			return cli.Usagef("--%s: expected %s, got %q", flagName(f.key), fields[f.key].want, text)
		}
	}
	return nil
}

// shown returns the settings as the JSON object that they can be given as.
func (s settings) shown() map[string]any {
	m := map[string]any{
		"product":    s.Product,
		"log_format": s.LogFormat, "log_requests": s.LogRequests, "metrics": s.Metrics,
		"drain": s.Drain.String(), "idle_timeout": s.IdleTimeout.String(), "stall_window": s.StallWindow.String(), "min_rate": s.MinRate,
	}
	for key, path := range map[string]string{"updates_dir": s.UpdatesDir, "data_dir": s.DataDir, "online_key": s.OnlineKey, "release_key": s.ReleaseKey} {
		if path != "" {
			m[key] = path
		}
	}
	if s.ServeUnsigned {
		m["serve_unsigned"] = true
	}
	if s.plain() {
		m["listen"] = s.address()
	}
	maps.Copy(m, s.limiting.shown())
	maps.Copy(m, s.securing.shown())
	maps.Copy(m, s.saved())
	return m
}
