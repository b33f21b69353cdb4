package settings

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/update"
)

// Server are the settings of box-update-server: one JSON object in the environment or in a file. Flags override them.
type Server struct {
	Port       int    // binds all interfaces; Listen overrides it
	Listen     string // host:port
	UpdatesDir string // read-only directory of archives
	DataDir    string // the server's own files, and the repository if there is one
	OnlineKey  string // file of the key that signs snapshot and timestamp; two while it is replaced
	// ClockChecked is when the operator found the clock right; zero: never.
	ClockChecked time.Time
	ReleaseKey   string // file of the public key that archives of UpdatesDir must be signed by
	// ServeUnsigned serves archives of UpdatesDir that the repository does not list.
	ServeUnsigned bool
	Product       update.Product // its archives are served
	LogFormat     string         // "text" or "json"
	LogRequests   bool           // a line for each request
	Metrics       bool           // /metrics answers
	Drain         time.Duration  // how long running downloads may go on after SIGTERM
	IdleTimeout   time.Duration  // a connection without a request is closed after it
	StallWindow   time.Duration  // a download is cut when it was slower than MinRate for so long
	MinRate       int64          // bytes per second
	Admin         string         // of no use any more
	Limits
	TLS
	Mirror
	Keeping
}

// Limits bound what one process gives away.
type Limits struct {
	MaxDownloads int64 // archives that are sent at once; 0: any number
	MaxBandwidth int64 // bytes per second of all archives together; 0: any
	MaxIdle      int64 // connections of one address on which nothing is under way; 0: any number

	// TrustedProxies are the reverse proxies whose X-Forwarded-For names the client of a request.
	TrustedProxies []netip.Prefix
}

// TLS are the settings of TLS.
type TLS struct {
	TLSListen      string        // host:port; "": no TLS
	TLSCertificate string        // file of the certificate, and of those between it and the authority
	TLSKey         string        // file of its private key
	TLSRedirect    bool          // HTTP is redirected to HTTPS
	HSTS           time.Duration // how long browsers must come with TLS only; 0: they need not
	ACMEDomains    []string      // names that certificates are obtained for, instead of the files
	ACMEDirectory  string        // URL of the authority's directory (RFC 8555, section 7.1.1)
	ACMECAFile     string        // certificate authorities, PEM, of that URL, instead of those of the system
	ACMEEmail      string        // whom the authority may write to; "": nobody
}

// Mirror are the settings of a mirror.
type Mirror struct {
	Upstream    []string      // base URLs, in the order in which they are asked; none: this is no mirror
	Root        string        // file of the pinned root; needed before the first sync alone
	Redirects   []string      // origins to which an upstream may redirect beside its own
	CAFile      string        // certificate authorities, PEM, instead of those of the system
	Interval    time.Duration // from one sync to the next
	Patience    time.Duration // how long a sync goes on without getting anything; 0: each upstream is asked once
	KeepNewest  int           // of how many versions of each product updates are kept; 0: of all
	KeepSince   time.Time     // from when on published updates are kept; zero: from ever
	OnDemand    string        // "fetch", "redirect" or "": what becomes of a request for an update that is not kept
	AcceptStale time.Duration // for how long past its expiry a timestamp or snapshot is accepted
	MaxBytes    int64         // that the store may hold; 0: as many as fit
	Bandwidth   int64         // bytes per second from all upstreams together; 0: no cap
}

// Keeping are the settings for the upkeep of a repository, of an origin or of a mirror.
type Keeping struct {
	KeepSuperseded time.Duration // how long metadata are served that newer ones replaced
	ScrubEvery     time.Duration // in which all archives are read again; 0: never
}

const (
	day        = 24 * time.Hour
	maxMinRate = 1 << 30 // bytes per second
	forever    = time.Duration(math.MaxInt64)

	// letsEncrypt is the authority that certificates come from unless another one is named.
	letsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"

	aMoment = `a day such as "2026-01-31" or a time such as "2026-01-31T12:00:00Z"`
)

// The rules that are about several settings.
var (
	ruleRate   = fmt.Sprintf("drain must not be negative, stall_window between 1s and 24h, min_rate between 1 and %d", maxMinRate)
	ruleLimits = "max_downloads, max_bandwidth and max_idle must not be negative"
	ruleSync   = "interval must be at least 1s, patience and accept_stale not negative"
	ruleKept   = "keep_newest, max_bytes and bandwidth must not be negative"
)

// Settings declares the settings, in the order of the help, and binds them to s.
func (s *Server) Settings() []Setting {
	return []Setting{
		{Key: "port", Want: "a number from 1 to 65535", Value: numberIn(&s.Port, 1, 65535), Hidden: true},
		{Key: "listen", Help: "address to listen on, `host:port`", Want: `"host:port"`, Value: text(&s.Listen), Check: address("listen", &s.Listen)},
		{Key: "updates_dir", Help: "read-only `directory` of archives to serve", Want: "the path of a directory", Value: text(&s.UpdatesDir)},
		{Key: "data_dir", Help: "`directory` of the repository, or for the server's own files alone", Want: "the path of a directory", Value: text(&s.DataDir)},
		{Key: "online_key", Help: "`file` of the key that signs snapshot and timestamp", Want: "the path of a private key file", Value: text(&s.OnlineKey)},
		{Key: "clock_checked", Help: "the clock is right: you looked on this `day`. For an origin that was off for over a month", Want: aMoment, Value: moment(&s.ClockChecked)},
		{Key: "release_key", Help: "`file` of the public key that archives of updates-dir must be signed by", Want: "the path of a public key file", Value: text(&s.ReleaseKey)},
		{Key: "serve_unsigned", Help: "serve archives of updates-dir that the repository does not list: `true` or false", Want: "true or false", Value: truth(&s.ServeUnsigned)},
		{Key: "product", Help: "serve archives of this `product`", Want: `a product such as "opq-box-update"`, Value: product(&s.Product)},
		{Key: "log_format", Help: "log as `text` or json", Want: `"text" or "json"`, Value: text(&s.LogFormat, "text"), Check: s.checkLogFormat},
		{Key: "log_requests", Help: "log each request: `true` or false", Want: "true or false", Value: truth(&s.LogRequests, true)},
		{Key: "metrics", Help: "measure, and answer for /metrics: `true` or false", Want: "true or false", Value: truth(&s.Metrics, true)},
		{Key: "drain", Help: "how long downloads may go on after SIGTERM, a `duration`", Want: `a duration such as "30s"`,
			Value: duration(&s.Drain, 30*time.Second), Check: within(&s.Drain, 0, forever, ruleRate)},
		{Key: "idle_timeout", Help: "close a connection without a request after this `duration`", Want: `a duration such as "2m"`,
			Value: duration(&s.IdleTimeout, 2*time.Minute), Check: within(&s.IdleTimeout, time.Second, day, "idle_timeout must be between 1s and 24h")},
		{Key: "stall_window", Help: "cut a download that was slower than min-rate for this `duration`", Want: `a duration such as "1m"`,
			Value: duration(&s.StallWindow, time.Minute), Check: within(&s.StallWindow, time.Second, day, ruleRate)},
		{Key: "min_rate", Help: "`bytes` per second", Want: "a number of bytes per second", Value: number(&s.MinRate, 64), Check: within(&s.MinRate, 1, maxMinRate, ruleRate)},

		{Key: "max_downloads", Help: "send so many archives at once, a `number`; 0: any", Want: "a number of downloads",
			Value: number(&s.MaxDownloads), Check: within(&s.MaxDownloads, 0, math.MaxInt64, ruleLimits)},
		{Key: "max_bandwidth", Help: "send so many `bytes` of archives per second, of all together; 0: any", Want: "a number of bytes per second",
			Value: number(&s.MaxBandwidth), Check: within(&s.MaxBandwidth, 0, math.MaxInt64, ruleLimits)},
		{Key: "max_idle", Help: "keep so many idle connections of one address, a `number`; 0: any", Want: "a number of connections",
			Value: number(&s.MaxIdle, 256), Check: within(&s.MaxIdle, 0, math.MaxInt64, ruleLimits)},
		{Key: "trusted_proxies", Help: "`address` or prefix of a reverse proxy, whose X-Forwarded-For says whose a request is",
			Want: `an address or a prefix such as "10.0.0.0/8", or a list of them`, Value: list(&s.TrustedProxies, parsePrefix)},

		{Key: "tls_listen", Help: "address to listen on with TLS, `host:port`", Want: `"host:port"`, Value: text(&s.TLSListen), Check: address("tls_listen", &s.TLSListen)},
		{Key: "tls_certificate", Help: "`file` of the certificate, read again when it changes", Want: "the path of a certificate file", Value: text(&s.TLSCertificate)},
		{Key: "tls_key", Help: "`file` of its private key", Want: "the path of a private key file", Value: text(&s.TLSKey)},
		{Key: "tls_redirect", Help: "redirect HTTP to HTTPS: `true` or false", Want: "true or false", Value: truth(&s.TLSRedirect)},
		{Key: "hsts", Help: "tell browsers to come with TLS only for this `duration`", Want: `a duration such as "8760h"`,
			Value: duration(&s.HSTS), Check: within(&s.HSTS, 0, forever, "hsts must not be negative")},
		{Key: "acme_domains", Help: "obtain a certificate for this `domain`", Want: "a domain name, or a list of them", Value: list(&s.ACMEDomains, parseDomain)},
		{Key: "acme_directory", Help: "`URL` of the directory of the authority that certificates come from", Want: "an https:// URL",
			Value: keep(&s.ACMEDirectory, fromText(parseHTTPS), same, letsEncrypt), With: &s.ACMEDomains},
		{Key: "acme_ca_file", Help: "`file` of the certificate authorities of that URL", Want: "the path of a file of certificates", Value: text(&s.ACMECAFile)},
		{Key: "acme_email", Help: "`address` that the authority may write to", Want: "an address", Value: text(&s.ACMEEmail)},

		{Key: "upstream", Help: "`URL` of the server to mirror, or @FILE or env:NAME with it", Want: "the URL of a server, or a list of them",
			Value: list(&s.Upstream, ParseURL), Saved: true, Expand: true},
		{Key: "root", Help: "`file` of the root to trust before the first sync", Want: "the path of a root file such as 1.root.json", Value: text(&s.Root), Saved: true},
		{Key: "redirects", Help: "`URL` of a host that an upstream may redirect to", Want: "the URL of a host, or a list of them", Value: list(&s.Redirects, ParseURL), Saved: true},
		{Key: "ca_file", Help: "`file` of the certificate authorities of upstreams", Want: "the path of a file of certificates", Value: text(&s.CAFile), Saved: true},
		{Key: "interval", Help: "from one sync to the next, a `duration`", Want: `a duration such as "5m"`,
			Value: duration(&s.Interval, 5*time.Minute), Check: within(&s.Interval, time.Second, forever, ruleSync), Saved: true, With: &s.Upstream},
		{Key: "patience", Help: "give a sync up when nothing came for this `duration`", Want: `a duration such as "2m"`,
			Value: duration(&s.Patience, 2*time.Minute), Check: within(&s.Patience, 0, forever, ruleSync), Saved: true, With: &s.Upstream},
		{Key: "keep_newest", Help: "keep updates of this `number` of versions of each product", Want: "a number of versions",
			Value: number(&s.KeepNewest), Check: within(&s.KeepNewest, 0, math.MaxInt, ruleKept), Saved: true},
		{Key: "keep_since", Help: "keep updates that were published since this `day`", Want: aMoment, Value: moment(&s.KeepSince), Saved: true},
		{Key: "on_demand", Help: "`fetch`, redirect, or none: what becomes of a request for an update that is not kept", Want: `"fetch", "redirect" or "none"`,
			Value: keep(&s.OnDemand, fromText(parseOnDemand), same), Saved: true},
		{Key: "accept_stale", Help: "accept a timestamp that expired less than this `duration` ago", Want: `a duration such as "72h"`,
			Value: duration(&s.AcceptStale), Check: within(&s.AcceptStale, 0, forever, ruleSync), Saved: true},
		{Key: "max_bytes", Help: "`bytes` that the repository may hold", Want: "a number of bytes",
			Value: number(&s.MaxBytes), Check: within(&s.MaxBytes, 0, math.MaxInt64, ruleKept), Saved: true},
		{Key: "bandwidth", Help: "`bytes` per second from all upstreams together", Want: "a number of bytes per second",
			Value: number(&s.Bandwidth), Check: within(&s.Bandwidth, 0, math.MaxInt64, ruleKept), Saved: true},

		{Key: "keep_superseded", Help: "serve metadata for this `duration` after newer ones replaced them", Want: `a duration such as "1h"`,
			Value: duration(&s.KeepSuperseded, time.Hour), Saved: true, Quiet: true,
			Check: within(&s.KeepSuperseded, time.Minute, 30*day, "keep_superseded must be between 1m and 720h")},
		{Key: "scrub_every", Help: "read all archives again, behind all else, within this `duration`; 0s: never", Want: `a duration such as "720h", or "0s"`,
			Value: duration(&s.ScrubEvery, 30*day), Check: s.checkScrub, Saved: true, Quiet: true},
		{Key: "admin", Help: "not used any more: `host:port`", Want: `"host:port"`, Value: text(&s.Admin),
			Retired: "the server is asked through the unix socket admin.sock in data_dir"},
	}
}

// NewServer returns the settings of a server that says nothing of them.
func NewServer() *Server {
	s := &Server{}
	Reset(s.Settings())
	return s
}

func (s *Server) checkLogFormat() error {
	if s.LogFormat != "text" && s.LogFormat != "json" {
		return fmt.Errorf("log_format %q: expected \"text\" or \"json\"", s.LogFormat)
	}
	return nil
}

// parseOnDemand takes "none" for the zero value.
func parseOnDemand(text string) (string, error) {
	if text == "none" {
		return "", nil
	}
	return oneOf("fetch", "redirect")(text)
}

func (s *Server) checkScrub() error {
	if s.ScrubEvery == 0 || s.ScrubEvery >= time.Second && s.ScrubEvery <= 10*365*day {
		return nil
	}
	return errors.New("scrub_every must be 0s, or between 1s and ten years")
}

// Check says what can't work, whatever the settings are used for.
func (s *Server) Check() []error { return append(Check(s.Settings()), s.TLS.check()...) }

// check says which settings of TLS contradict each other.
func (c *TLS) check() (problems []error) {
	bad := func(text string) { problems = append(problems, errors.New(text)) }
	files := c.TLSCertificate != "" || c.TLSKey != ""
	switch {
	case files && len(c.ACMEDomains) > 0:
		bad("tls_certificate and acme_domains exclude each other")
	case files && (c.TLSCertificate == "" || c.TLSKey == ""):
		bad("tls_certificate and tls_key belong together: one is not set")
	case c.TLSListen != "" && !files && len(c.ACMEDomains) == 0:
		bad("tls_listen needs a certificate: set tls_certificate and tls_key, or acme_domains")
	case c.TLSListen == "" && (files || len(c.ACMEDomains) > 0 || c.TLSRedirect || c.HSTS != 0):
		bad("tls_listen is not set: without it there is no TLS")
	}
	return problems
}

// maxServer bounds the settings, in bytes.
const maxServer = 1 << 20

// Parse overrides s with the settings in b and returns the keys that are not known, which are
// tolerated. from names the source for messages.
func (s *Server) Parse(from string, b []byte) (unknown []string, err error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(b, &object); err != nil {
		return nil, fmt.Errorf("settings in %s: JSON: %w", from, explain.JSON(b, err))
	}
	if object == nil {
		return nil, fmt.Errorf("settings in %s: JSON: expected an object, got null", from)
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

// Show returns the settings as the JSON object that they can be given as.
func (s *Server) Show() map[string]any {
	shown := Show(s.Settings())
	if s.Plain() {
		shown["listen"] = s.Address()
	}
	return shown
}

// ShowSaved returns what commands that look after a data directory have to know of the settings.
func (s *Server) ShowSaved() map[string]any {
	var saved []Setting
	for _, one := range s.Settings() {
		if one.Saved {
			saved = append(saved, one)
		}
	}
	return Show(saved)
}

// Plain reports whether the server listens without TLS.
func (s *Server) Plain() bool { return s.Listen != "" || s.Port != 0 }

// Address returns what to listen on without TLS.
func (s *Server) Address() string {
	if s.Listen != "" {
		return s.Listen
	}
	return ":" + strconv.Itoa(s.Port)
}

// Asked returns where to ask the server how it is, and whether that is with TLS.
func (s *Server) Asked() (address string, secure bool) {
	if !s.Plain() || s.TLSRedirect {
		return s.TLSListen, true
	}
	return s.Address(), false
}

// ACMEDir is where ACME accounts and certificates are kept.
func (s *Server) ACMEDir() string { return filepath.Join(s.DataDir, "acme") }

// TLSPort returns the port of TLS as it stands in a URL behind the host: empty for the usual one.
func (c *TLS) TLSPort() string {
	_, port, err := net.SplitHostPort(c.TLSListen)
	if err != nil || port == "443" {
		return ""
	}
	return ":" + port
}
