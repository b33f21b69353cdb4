package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/openpowerquality/box-update-server/internal/cli"
)

// version is set by the linker.
var version = "unknown"

// newRoot returns the command with all below it. Without a subcommand it serves.
func newRoot(streams cli.Streams) *cobra.Command {
	l := &loader{streams: streams}
	root := &cobra.Command{
		Use:   "box-update-server",
		Short: "serve software updates to boxes, by name and by SHA-256 digest",
		Long: "Serves software updates to boxes, by name and by SHA-256 digest.\n\n" +
			"Settings come as one JSON object from --config FILE, else from " + settingsVariable + ".\n" +
			"Flags override them. SIGTERM lets running downloads end; SIGHUP reads the settings again.",
		Example: "  " + settingsVariable + `='{"port": 8151, "updates_dir": "/srv/updates"}' box-update-server` + "\n" +
			"  box-update-server serve --updates-dir /srv/updates --listen 127.0.0.1:8151\n" +
			"  box-update-server serve --data-dir R --online-key K/online.pem --listen 127.0.0.1:8151\n" +
			"  box-update-server mirror http://127.0.0.1:8151 --root 1.root.json --data-dir M --listen 127.0.0.1:8152",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return l.serve(cmd) },
	}
	l.register(root.PersistentFlags())
	root.AddCommand(
		mirrorCommand(l),
		statusCommand(l),
		healthCommand(l),
		doctorCommand(l),
		fsckCommand(l),
		gcCommand(l),
		exportCommand(l),
		importCommand(l),
		&cobra.Command{
			Use:   "serve",
			Short: "serve updates (what the program does without a command)",
			Args:  cobra.NoArgs,
			RunE:  root.RunE,
		},
		configCommand(l),
		&cobra.Command{
			Use:   "version",
			Short: "print the version of the program",
			Args:  cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error {
				_, err := fmt.Fprintln(streams.Out, "box-update-server", version)
				return err
			},
		},
	)
	return root
}

func configCommand(l *loader) *cobra.Command {
	config := &cobra.Command{Use: "config", Short: "look at the settings"}
	config.AddCommand(&cobra.Command{
		Use:   "check",
		Short: "check the settings and print those in force",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, unknown, err := l.serving(cmd.Flags())
			if err != nil {
				return err
			}
			for _, key := range unknown {
				fmt.Fprintf(l.streams.Err, "box-update-server: unknown setting %q is ignored\n", key)
			}
			shown := s.shown()
			for _, key := range []string{"upstream", "redirects"} {
				if urls, ok := shown[key].([]string); ok {
					shown[key] = maskedURLs(urls)
				}
			}
			return l.streams.JSON(shown)
		},
	})
	return config
}

func (l *loader) serve(cmd *cobra.Command) error {
	s, unknown, err := l.serving(cmd.Flags())
	if err != nil {
		return err
	}
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)
	return serve(cmd.Context(), server{
		settings: s,
		unknown:  unknown,
		log:      newMeter(l.streams),
		now:      l.streams.Now,
		reload:   reload,
		load:     func() (settings, []string, error) { return l.serving(cmd.Flags()) },
	})
}

// A loader puts the settings together: defaults, then a file or the environment, then flags.
type loader struct {
	streams   cli.Streams
	config    string
	upstreams []string // from the arguments; none: those of the settings
	mirrors   bool     // there have to be upstreams
}

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

func flagName(key string) string { return strings.ReplaceAll(key, "_", "-") }

func (l *loader) register(fs *pflag.FlagSet) {
	fs.StringVar(&l.config, "config", "", "take the settings from this JSON `file`")
	for _, f := range flags {
		fs.String(flagName(f.key), "", f.usage)
	}
}

// serving returns the settings of a server.
func (l *loader) serving(fs *pflag.FlagSet) (settings, []string, error) {
	return l.load(defaultSettings(), fs, (*settings).checkServing)
}

// syncing returns the settings of a mirror that does not listen.
func (l *loader) syncing(fs *pflag.FlagSet) (settings, []string, error) {
	return l.load(defaultSettings(), fs, (*settings).checkDirs)
}

// data returns the settings of a command that looks after a data directory. Those that a mirror wrote
// down there are in force where no others are given.
func (l *loader) data(fs *pflag.FlagSet) (settings, error) {
	s, _, err := l.load(defaultSettings(), fs, (*settings).checkData)
	if err != nil {
		return settings{}, err
	}
	saved := defaultSettings()
	if _, err := saved.readFile(filepath.Join(s.DataDir, savedName)); errors.Is(err, os.ErrNotExist) {
		return s, nil
	} else if err != nil {
		return settings{}, err
	}
	s, _, err = l.load(saved, fs, (*settings).checkData)
	return s, err
}

// load returns s with the settings that are given, checked, and the keys that are not known.
func (l *loader) load(s settings, fs *pflag.FlagSet, purpose func(*settings) []error) (settings, []string, error) {
	unknown, err := l.base(&s, fs)
	if err != nil {
		return settings{}, nil, err
	}
	if err := s.override(fs, l.streams); err != nil {
		return settings{}, nil, err
	}
	if len(l.upstreams) > 0 {
		urls, err := l.streams.URLs(l.upstreams)
		if err != nil {
			return settings{}, nil, cli.Usagef("%w", err)
		}
		b, err := json.Marshal(urls)
		if err != nil {
			return settings{}, nil, err
		}
		if err := setURLs(&s.Upstream, b); err != nil {
			return settings{}, nil, cli.Usagef("%s: expected the URL of a server: %w", strings.Join(l.upstreams, " "), err)
		}
	}
	if l.mirrors && len(s.Upstream) == 0 {
		return settings{}, nil, cli.Usagef("whom to mirror? name a URL, or set upstream")
	}
	if err := s.check(purpose); err != nil {
		return settings{}, nil, err
	}
	return s, unknown, nil
}

func (l *loader) base(s *settings, fs *pflag.FlagSet) (unknown []string, err error) {
	env := l.streams.Getenv(settingsVariable)
	switch {
	case l.config != "":
		return s.readFile(l.config)
	case env != "":
		return s.readJSON(settingsVariable, []byte(env))
	case fs.NFlag() > 0 || len(l.upstreams) > 0:
		return nil, nil
	}
	return nil, cli.WithHint(errors.New("no settings: "+settingsVariable+" is unset or empty"),
		`set `+settingsVariable+`='{"port": 8151, "updates_dir": "/path/to/updates"}' or see --help`)
}

// override applies the flags that were given.
func (s *settings) override(fs *pflag.FlagSet, streams cli.Streams) error {
	fields := s.fields()
	for _, f := range flags {
		flag := fs.Lookup(flagName(f.key))
		if flag == nil || !flag.Changed {
			continue
		}
		text := flag.Value.String()
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
