package settings

import (
	"fmt"
	"math"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/update"
)

const day = 24 * time.Hour

// Server is the settings of box-update-server: one JSON object in the environment or in a file. Flags override them.
type Server struct {
	Port          int    // on all interfaces; Listen overrides it
	Listen        string // host:port
	UpdatesDir    string
	DataDir       string
	OnlineKey     string    // file; two while the key is replaced
	ClockChecked  time.Time // zero: never
	ReleaseKey    string    // file
	ServeUnsigned bool
	Product       update.Product
	LogFormat     string // "text" or "json"
	LogRequests   bool
	Metrics       bool
	Drain         time.Duration
	IdleTimeout   time.Duration
	StallWindow   time.Duration
	MinRate       int64  // bytes per second
	Admin         string // has no effect
	Limits
	TLS
	Mirror
	Keeping
}

// Settings returns the declarations of all settings, bound to s.
func (s *Server) Settings() []Setting {
	return slices.Concat(s.settings(), s.Limits.settings(), s.TLS.settings(), s.Mirror.settings(), s.Keeping.settings())
}

func (s *Server) settings() []Setting {
	return []Setting{
		{"port", "", number(&s.Port, "a number", 1, 65535).hidden()},
		{"listen", "listen on this `host:port`", address(&s.Listen)},
		{"updates_dir", "serve the archives in this `directory`, which is only read", path(&s.UpdatesDir, "a directory")},
		{"data_dir", "`directory` of the repository, or only of the server's own files", path(&s.DataDir, "a directory")},
		{"online_key", "`file` of the key that signs snapshot and timestamp", text(&s.OnlineKey, "the path of a private key file")},
		{"clock_checked", "say that the clock was right on this `day`, for an origin that was off for over a month", moment(&s.ClockChecked)},
		{"release_key", "`file` of the public key that must have signed the archives in updates-dir", path(&s.ReleaseKey, "a public key file")},
		{"serve_unsigned", "serve archives in updates-dir that the repository does not list: `true|false`", truth(&s.ServeUnsigned)},
		{"product", "serve archives of this `product`", product(&s.Product)},
		{"log_format", "log format: `text|json`", word(&s.LogFormat, `"text" or "json"`, "text", "text", "json")},
		{"log_requests", "log each request: `true|false`", truth(&s.LogRequests, true)},
		{"metrics", "measure, and serve /metrics: `true|false`", truth(&s.Metrics, true)},
		{"drain", "after SIGTERM, let downloads go on for this `duration`", duration(&s.Drain, 0, forever, 30*time.Second)},
		{"idle_timeout", "close a connection without a request after this `duration`", duration(&s.IdleTimeout, time.Second, day, 2*time.Minute)},
		{"stall_window", "cut a download that was slower than min-rate for this `duration`", duration(&s.StallWindow, time.Second, day, time.Minute)},
		{"min_rate", "least speed of a download, in `bytes` per second", number(&s.MinRate, "a number of bytes per second", 1, 1<<30, 64)},
		{"admin", "not used any more: `host:port`", text(&s.Admin, `"host:port"`).retired("the server is asked through the unix socket admin.sock in data_dir")},
	}
}

// Limits bound what one process sends. 0 means no limit.
type Limits struct {
	MaxDownloads   int64
	MaxBandwidth   int64 // bytes per second
	MaxIdle        int64
	TrustedProxies []netip.Prefix
}

func (l *Limits) settings() []Setting {
	return []Setting{
		{"max_downloads", "send at most this `number` of archives at once; 0: any number", number(&l.MaxDownloads, "a number of downloads", 0, math.MaxInt64)},
		{"max_bandwidth", "send at most this number of `bytes` of archives per second, over all downloads; 0: any number",
			number(&l.MaxBandwidth, "a number of bytes per second", 0, math.MaxInt64)},
		{"max_idle", "keep at most this `number` of idle connections per address; 0: any number",
			number(&l.MaxIdle, "a number of connections", 0, math.MaxInt64, 256)},
		{"trusted_proxies", "`address` or prefix of a reverse proxy, whose X-Forwarded-For names the client",
			list(&l.TrustedProxies, `an address or a prefix such as "10.0.0.0/8"`, prefix)},
	}
}

// Keeping is the settings for the upkeep of a repository, of an origin or of a mirror.
type Keeping struct {
	KeepSuperseded time.Duration
	ScrubEvery     time.Duration // 0: never
}

func (k *Keeping) settings() []Setting {
	return []Setting{
		{"keep_superseded", "serve metadata for this `duration` after newer metadata replaced it", duration(&k.KeepSuperseded, time.Minute, 30*day, time.Hour)},
		{"scrub_every", "read all archives again within this `duration`, at low priority; 0s: never",
			durationOrNever(&k.ScrubEvery, time.Second, 10*365*day, 30*day)},
	}
}

// NewServer returns the defaults.
func NewServer() *Server {
	s := &Server{}
	Reset(s.Settings())
	return s
}

// Check returns an error for each setting that is out of its bounds, and for settings that contradict each other
// whatever they are used for.
func (s *Server) Check() []error { return append(Check(s.Settings()), s.TLS.check()...) }

// maxServer bounds the settings, in bytes.
const maxServer = 1 << 20

// Parse overrides s with the settings in b and returns the unknown keys, which are tolerated. Messages name the source
// from.
func (s *Server) Parse(from string, b []byte) (unknown []string, err error) {
	object, err := parseObject(b)
	if err != nil {
		return nil, fmt.Errorf("settings in %s: JSON: %w", from, err)
	}
	if unknown, err = Set(s.Settings(), object); err != nil {
		return nil, fmt.Errorf("settings in %s: %w", from, err)
	}
	return unknown, nil
}

// Read overrides s with the settings in a file.
func (s *Server) Read(path string) (unknown []string, err error) {
	b, err := disk.ReadFile(path, maxServer)
	if err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	return s.Parse(path, b)
}

// Show returns the settings as the JSON object that they can be given as, but without the users and passwords of URLs.
func (s *Server) Show() map[string]any {
	shown := Show(s.Settings())
	if s.Plain() {
		shown["listen"] = s.Address()
	}
	for key, value := range shown {
		if texts, ok := value.([]string); ok {
			masked := make([]string, len(texts))
			for i, text := range texts {
				masked[i] = explain.MaskURLs(text)
			}
			shown[key] = masked
		}
	}
	return shown
}

// Saved returns the settings that a server saves in its data directory, for the commands that look after it.
func (s *Server) Saved() []Setting { return append(s.Mirror.settings(), s.Keeping.settings()...) }

// Plain reports whether the server listens without TLS.
func (s *Server) Plain() bool { return s.Listen != "" || s.Port != 0 }

// Address returns the address to listen on without TLS.
func (s *Server) Address() string {
	if s.Listen != "" {
		return s.Listen
	}
	return ":" + strconv.Itoa(s.Port)
}

// Asked returns the address at which to ask the server for its health, and whether to use TLS.
func (s *Server) Asked() (address string, secure bool) {
	if !s.Plain() || s.TLSRedirect {
		return s.TLSListen, true
	}
	return s.Address(), false
}

// ACMEDir returns the directory of ACME accounts and certificates.
func (s *Server) ACMEDir() string { return filepath.Join(s.DataDir, "acme") }
