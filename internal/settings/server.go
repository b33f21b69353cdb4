package settings

import (
	"fmt"
	"math"
	"net/netip"
	"path/filepath"
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

// Group is settings that belong together.
type Group struct {
	Title    string
	Settings []Setting
}

// Groups returns the declarations of all settings, bound to s.
func (s *Server) Groups() []Group {
	return []Group{
		{"What to serve", s.serving()},
		{"Where to listen", s.listening()},
		{"TLS", s.TLS.settings()},
		{"Limits", append(s.patience(), s.Limits.settings()...)},
		{"Mirror", s.Mirror.settings()},
		{"Upkeep", s.Keeping.settings()},
		{"Log and metrics", s.reporting()},
	}
}

// Settings returns the declarations of all settings, bound to s.
func (s *Server) Settings() (all []Setting) {
	for _, g := range s.Groups() {
		all = append(all, g.Settings...)
	}
	return all
}

func (s *Server) serving() []Setting {
	return []Setting{
		{"updates_dir", "Serve the archives in `DIR`, which is only read", path(&s.UpdatesDir, "a directory")},
		{"data_dir", "`DIR` of the repository and of the server's own files", path(&s.DataDir, "a directory")},
		{"online_key", "`FILE` of the key that signs snapshot and timestamp", text(&s.OnlineKey, "the path of a private key file")},
		{"clock_checked", "Say that the clock was right on this `DAY`, for an origin that was off for over a month", moment(&s.ClockChecked)},
		{"release_key", "`FILE` of the public key that must have signed the archives in updates-dir", path(&s.ReleaseKey, "a public key file")},
		{"serve_unsigned", "Serve archives in updates-dir that the repository does not list", truth(&s.ServeUnsigned)},
		{"product", "Serve archives of this `PRODUCT`", product(&s.Product)},
	}
}

func (s *Server) listening() []Setting {
	return []Setting{
		{"port", "", number(&s.Port, "a number", 1, 65535).hidden()},
		{"listen", "Listen on `HOST:PORT`", address(&s.Listen)},
		{"admin", "Not used any more: `HOST:PORT`", text(&s.Admin, `"host:port"`).retired("the server is asked through the unix socket admin.sock in data_dir")},
	}
}

func (s *Server) patience() []Setting {
	return []Setting{
		{"drain", "After SIGTERM, let downloads go on for this `DURATION`", duration(&s.Drain, 0, forever, 30*time.Second)},
		{"idle_timeout", "Close a connection without a request after this `DURATION`", duration(&s.IdleTimeout, time.Second, day, 2*time.Minute)},
		{"stall_window", "Cut a download that was slower than min-rate for this `DURATION`", duration(&s.StallWindow, time.Second, day, time.Minute)},
		{"min_rate", "Least speed of a download, in `BYTES` per second", size(&s.MinRate, "a number of bytes per second", 1, 1<<30, 64)},
	}
}

func (s *Server) reporting() []Setting {
	return []Setting{
		{"log_format", "Write the log as `text|json`", word(&s.LogFormat, `"text" or "json"`, "text", "text", "json")},
		{"log_requests", "Log each request", truth(&s.LogRequests, true)},
		{"metrics", "Measure, and serve /metrics", truth(&s.Metrics, true)},
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
		{"max_downloads", "Send at most this `NUMBER` of archives at once; 0: any number", number(&l.MaxDownloads, "a number of downloads", 0, math.MaxInt64)},
		{"max_bandwidth", "Send at most `BYTES` of archives per second, over all downloads; 0: any number",
			size(&l.MaxBandwidth, "a number of bytes per second", 0, math.MaxInt64)},
		{"max_idle", "Keep at most this `NUMBER` of idle connections per address; 0: any number",
			number(&l.MaxIdle, "a number of connections", 0, math.MaxInt64, 256)},
		{"trusted_proxies", "`ADDRESS` or prefix of a reverse proxy, whose X-Forwarded-For names the client",
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
		{"keep_superseded", "Serve replaced metadata for this `DURATION`", duration(&k.KeepSuperseded, time.Minute, 30*day, time.Hour)},
		{"scrub_every", "Read all archives again within this `DURATION`, at low priority; 0s: never",
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
