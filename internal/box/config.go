package box

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/update"
)

// The bounds of the configuration.
const (
	maxConfig  = 64 << 10 // bytes
	maxMirrors = 32
	maxText    = 4096 // bytes of a path or URL
)

// config is what an operator says about a box: one JSON object. A field that is not known is refused,
// since it would be a wish that is not followed.
type config struct {
	Mirrors   []string // base URLs; the box asks them in a random order that it keeps
	Redirects []string // origins to which a mirror may redirect beside its own
	Root      string   // file of the pinned root; relative to the configuration's directory
	State     string   // directory of what the box knows
	CAFile    string   // certificate authorities, PEM, instead of those of the system

	Product   update.Product
	Hardware  string // what updates that are for some hardware alone are compared with
	MachineID string // "": the system's, else one that is made once

	AcceptStale    time.Duration // for how long past its expiry a timestamp or snapshot is accepted
	Window         window        // when updates are installed
	Rate           int64         // bytes per second; 0: no cap
	MaxBytesPerDay int64         // of archives; 0: no cap
	Patience       time.Duration // how long a command goes on without getting anything; 0: each mirror is asked once

	Reboot      string        // "always", "asked" or "never"; "": as the archive is used to
	Timeout     time.Duration // of what an installation runs; 0: the default
	MaxFailures int           // after which an update is set aside; 0: the default
	PreInstall  string        // directories of hooks
	PostInstall string
}

func defaults() config {
	return config{
		State: DefaultState, Product: update.DefaultProduct, Patience: time.Minute,
		PreInstall: "pre-install.d", PostInstall: "post-install.d",
	}
}

// A field is one setting: what it should be, for messages, and how it is set.
type field struct {
	want string
	set  func(json.RawMessage) error
}

const day = 24 * time.Hour

func (c *config) fields() map[string]field {
	list := fmt.Sprintf("a list of 1 to %d different URLs, http:// or https://", maxMirrors)
	return map[string]field{
		"mirrors":           {list, func(b json.RawMessage) error { return setURLs(&c.Mirrors, b) }},
		"redirects":         {list, func(b json.RawMessage) error { return setURLs(&c.Redirects, b) }},
		"root":              {"the path of a root file", func(b json.RawMessage) error { return setText(&c.Root, b) }},
		"state":             {"the path of a directory", func(b json.RawMessage) error { return setText(&c.State, b) }},
		"ca_file":           {"the path of a file of certificates", func(b json.RawMessage) error { return setText(&c.CAFile, b) }},
		"product":           {`a product such as "opq-box-update"`, func(b json.RawMessage) error { return setProduct(&c.Product, b) }},
		"hardware":          {"1 to 64 bytes of printable ASCII", func(b json.RawMessage) error { return setID(&c.Hardware, b, 64) }},
		"machine_id":        {"1 to 128 bytes of printable ASCII", func(b json.RawMessage) error { return setID(&c.MachineID, b, maxMachine) }},
		"accept_stale":      {`a duration from "0s" to "8760h"`, func(b json.RawMessage) error { return setDuration(&c.AcceptStale, b, 365*day) }},
		"window":            {`local times such as "02:00-04:00"`, func(b json.RawMessage) error { return c.Window.set(b) }},
		"rate":              {"a number of bytes per second from 1 on", func(b json.RawMessage) error { return setNumber(&c.Rate, b, 1, 1<<40) }},
		"max_bytes_per_day": {fmt.Sprintf("a number of bytes from %d on, the length of a block", update.BlockSize), func(b json.RawMessage) error { return setNumber(&c.MaxBytesPerDay, b, update.BlockSize, 1<<60) }},
		"patience":          {`a duration from "0s" to "24h"`, func(b json.RawMessage) error { return setDuration(&c.Patience, b, day) }},
		"reboot":            {`"always", "asked" or "never"`, func(b json.RawMessage) error { return setOneOf(&c.Reboot, b, "always", "asked", "never") }},
		"timeout":           {`a duration from "0s" to "24h"`, func(b json.RawMessage) error { return setDuration(&c.Timeout, b, day) }},
		"max_failures":      {"a number from 1 to 100", func(b json.RawMessage) error { return setInt(&c.MaxFailures, b, 1, 100) }},
		"pre_install":       {"the path of a directory", func(b json.RawMessage) error { return setText(&c.PreInstall, b) }},
		"post_install":      {"the path of a directory", func(b json.RawMessage) error { return setText(&c.PostInstall, b) }},
	}
}

// readConfig reads the configuration.
func readConfig(path string) (config, error) {
	b, err := disk.ReadFile(path, maxConfig)
	if err != nil {
		return config{}, fmt.Errorf("configuration: %w", err)
	}
	c, err := parseConfig(path, b)
	if err != nil {
		return config{}, fmt.Errorf("configuration: %s: %w", path, err)
	}
	return c, nil
}

// parseConfig parses a configuration that lies at path. Each field may stand once, none has to.
func parseConfig(path string, b []byte) (config, error) {
	object, err := parseObject(b)
	if err != nil {
		return config{}, err
	}
	c := defaults()
	fields := c.fields()
	for _, key := range slices.Sorted(maps.Keys(object)) {
		f, known := fields[key]
		if !known {
			return config{}, fmt.Errorf("expected one of %s, got %q", strings.Join(slices.Sorted(maps.Keys(fields)), ", "), explain.Clip(key, 40))
		}
		switch err := f.set(object[key]); {
		case errors.Is(err, errValue):
			return config{}, fmt.Errorf("%s: expected %s, got %s", key, f.want, shown(object[key]))
		case err != nil:
			return config{}, fmt.Errorf("%s: expected %s: %w", key, f.want, err)
		}
	}
	return c, c.resolve(path)
}

// shown returns a value for a message.
func shown(value json.RawMessage) string {
	var b bytes.Buffer
	if json.Compact(&b, value) != nil {
		return "no JSON" // no parser of objects lets it in
	}
	return explain.Clip(cli.MaskURLs(b.String()), 80)
}

// resolve makes paths absolute that are relative to the directory of the configuration.
func (c *config) resolve(path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	for _, p := range []*string{&c.Root, &c.State, &c.CAFile, &c.PreInstall, &c.PostInstall} {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(filepath.Dir(path), *p)
		}
	}
	return nil
}

// parseObject parses one JSON object in which each key stands once.
func parseObject(b []byte) (map[string]json.RawMessage, error) {
	if len(b) > maxConfig {
		return nil, fmt.Errorf("expected at most %d bytes, got %d", maxConfig, len(b))
	}
	if err := json.Unmarshal(b, new(json.RawMessage)); err != nil {
		return nil, explain.JSON(b, err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("expected a JSON object, got %s", explain.Character(bytes.TrimSpace(b)))
	}
	object := map[string]json.RawMessage{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, explain.JSON(b, err)
		}
		key, _ := t.(string) // an object has no other keys
		if _, twice := object[key]; twice {
			return nil, fmt.Errorf("expected %.40q once, got it twice", key)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, explain.JSON(b, err)
		}
		object[key] = value
	}
	return object, nil
}

// errValue says that a value is of another type, or out of bounds. Who names the value says what it should be.
var errValue = errors.New("another value")

// decode parses one JSON value, null excepted.
func decode[T any](b json.RawMessage) (v T, err error) {
	if string(b) == "null" || json.Unmarshal(b, &v) != nil {
		return v, errValue
	}
	return v, nil
}

func setText(p *string, b json.RawMessage) error {
	s, err := decode[string](b)
	if err != nil {
		return err
	}
	if s == "" || len(s) > maxText || strings.ContainsRune(s, 0) {
		return errValue
	}
	*p = s
	return nil
}

// setID takes one line of printable ASCII.
func setID(p *string, b json.RawMessage, most int) error {
	s, err := decode[string](b)
	if err != nil {
		return err
	}
	if s == "" || len(s) > most || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
		return errValue
	}
	*p = s
	return nil
}

func setOneOf(p *string, b json.RawMessage, known ...string) error {
	s, err := decode[string](b)
	if err != nil {
		return err
	}
	if !slices.Contains(known, s) {
		return errValue
	}
	*p = s
	return nil
}

func setNumber(p *int64, b json.RawMessage, least, most int64) error {
	n, err := decode[int64](b)
	if err != nil {
		return err
	}
	if n < least || n > most {
		return errValue
	}
	*p = n
	return nil
}

func setInt(p *int, b json.RawMessage, least, most int64) error {
	var n int64
	if err := setNumber(&n, b, least, most); err != nil {
		return err
	}
	*p = int(n)
	return nil
}

func setDuration(p *time.Duration, b json.RawMessage, most time.Duration) error {
	s, err := decode[string](b)
	if err != nil {
		return err
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d > most {
		return errValue
	}
	*p = d
	return nil
}

func setProduct(p *update.Product, b json.RawMessage) error {
	s, err := decode[string](b)
	if err != nil {
		return err
	}
	product, err := update.ParseProduct(s)
	if err != nil {
		return err
	}
	*p = product
	return nil
}

func setURLs(p *[]string, b json.RawMessage) error {
	urls, err := decode[[]string](b)
	if err != nil {
		return err
	}
	if err := checkURLs(urls); err != nil {
		return err
	}
	*p = urls
	return nil
}

// checkURLs refuses what is no list of different base URLs.
func checkURLs(urls []string) error {
	if len(urls) == 0 || len(urls) > maxMirrors {
		return errValue
	}
	for i, s := range urls {
		u, err := url.Parse(s)
		if err != nil {
			return errors.New("one of them is no URL") // the error quotes what may be a password
		}
		shown := cli.MaskURLs(s)
		if u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || len(s) > maxText {
			return fmt.Errorf("got %q", explain.Clip(shown, 80))
		}
		if slices.Contains(urls[:i], s) {
			return fmt.Errorf("%q stands twice", explain.Clip(shown, 80))
		}
	}
	return nil
}

// hasPassword reports whether one of the URLs has a user or a password, which is for nobody else to read.
func hasPassword(urls []string) bool {
	return slices.ContainsFunc(urls, func(s string) bool { return cli.MaskURLs(s) != s })
}

// certificates returns the authorities in the configured file, nil for those of the system.
func (c *config) certificates() (*x509.CertPool, error) {
	pool, err := fetch.Authorities(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	return pool, nil
}
