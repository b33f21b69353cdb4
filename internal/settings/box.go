package settings

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/update"
)

// The bounds of a box's configuration.
const (
	MaxBox       = 64 << 10 // bytes
	MaxMirrors   = 32
	MaxMachineID = 128 // bytes
)

// DefaultState is the directory of what a box knows.
const DefaultState = "/var/lib/boxup"

// Box is what an operator says about a box: one JSON object. A field that is not known is refused,
// since it would be a wish that is not followed.
type Box struct {
	Mirrors   []string // base URLs; the box asks them in a random order that it keeps
	Redirects []string // origins to which a mirror may redirect beside its own
	Root      string   // file of the pinned root; relative to the configuration's directory
	State     string   // directory of what the box knows
	CAFile    string   // certificate authorities, PEM, instead of those of the system

	Product   update.Product
	Hardware  string // what updates that are for some hardware alone are compared with
	MachineID string // "": the system's, else one that is made once

	AcceptStale    time.Duration // for how long past its expiry a timestamp or snapshot is accepted
	Window         Window        // when updates are installed
	Rate           int64         // bytes per second; 0: no cap
	MaxBytesPerDay int64         // of archives; 0: no cap
	Patience       time.Duration // how long a command goes on without getting anything; 0: each mirror is asked once

	Reboot      string        // "always", "asked" or "never"; "": as the archive is used to
	Timeout     time.Duration // of what an installation runs; 0: the default
	MaxFailures int           // after which an update is set aside; 0: the default
	PreInstall  string        // directories of hooks
	PostInstall string
}

// Settings declares the settings and binds them to c.
func (c *Box) Settings() []Setting {
	urls := fmt.Sprintf("a list of 1 to %d different URLs, http:// or https://", MaxMirrors)
	return []Setting{
		{Key: "mirrors", Want: urls, Value: baseURLs(&c.Mirrors)},
		{Key: "redirects", Want: urls, Value: baseURLs(&c.Redirects)},
		{Key: "root", Want: "the path of a root file", Value: text(&c.Root)},
		{Key: "state", Want: "the path of a directory", Value: text(&c.State, DefaultState)},
		{Key: "ca_file", Want: "the path of a file of certificates", Value: text(&c.CAFile)},
		{Key: "product", Want: `a product such as "opq-box-update"`, Value: product(&c.Product)},
		{Key: "hardware", Want: "1 to 64 bytes of printable ASCII", Value: id(&c.Hardware, 64)},
		{Key: "machine_id", Want: "1 to 128 bytes of printable ASCII", Value: id(&c.MachineID, MaxMachineID)},
		{Key: "accept_stale", Want: `a duration from "0s" to "8760h"`, Value: durationTo(&c.AcceptStale, 365*day)},
		{Key: "window", Want: `local times such as "02:00-04:00"`, Value: keep(&c.Window, fromText(ParseWindow), func(w Window) any { return w.String() })},
		{Key: "rate", Want: "a number of bytes per second from 1 on", Value: numberIn(&c.Rate, 1, 1<<40)},
		{Key: "max_bytes_per_day", Want: fmt.Sprintf("a number of bytes from %d on, the length of a block", update.BlockSize), Value: numberIn(&c.MaxBytesPerDay, update.BlockSize, 1<<60)},
		{Key: "patience", Want: `a duration from "0s" to "24h"`, Value: durationTo(&c.Patience, day, time.Minute)},
		{Key: "reboot", Want: `"always", "asked" or "never"`, Value: keep(&c.Reboot, fromText(oneOf("always", "asked", "never")), same)},
		{Key: "timeout", Want: `a duration from "0s" to "24h"`, Value: durationTo(&c.Timeout, day)},
		{Key: "max_failures", Want: "a number from 1 to 100", Value: numberIn(&c.MaxFailures, 1, 100)},
		{Key: "pre_install", Want: "the path of a directory", Value: text(&c.PreInstall, "pre-install.d")},
		{Key: "post_install", Want: "the path of a directory", Value: text(&c.PostInstall, "post-install.d")},
	}
}

// ReadBox reads the configuration of a box.
func ReadBox(path string) (Box, error) {
	b, err := disk.ReadFile(path, MaxBox)
	if err != nil {
		return Box{}, fmt.Errorf("configuration: %w", err)
	}
	c, err := ParseBox(path, b)
	if err != nil {
		return Box{}, fmt.Errorf("configuration: %s: %w", path, err)
	}
	return c, nil
}

// ParseBox parses a configuration that lies at path. Each field may stand once, none has to. Relative paths are taken from
// the directory of the configuration.
func ParseBox(path string, b []byte) (Box, error) {
	object, err := ParseObject(b)
	if err != nil {
		return Box{}, err
	}
	var c Box
	all := c.Settings()
	Reset(all)
	unknown, err := Set(all, object)
	if len(unknown) > 0 {
		return Box{}, fmt.Errorf("expected one of %s, got %q", strings.Join(Keys(all), ", "), explain.Clip(unknown[0], 40))
	}
	if err != nil {
		return Box{}, err
	}
	if path, err = filepath.Abs(path); err != nil {
		return Box{}, err
	}
	for _, p := range []*string{&c.Root, &c.State, &c.CAFile, &c.PreInstall, &c.PostInstall} {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(filepath.Dir(path), *p)
		}
	}
	return c, nil
}

// ParseObject parses one JSON object in which each key stands once.
func ParseObject(b []byte) (map[string]json.RawMessage, error) {
	if len(b) > MaxBox {
		return nil, fmt.Errorf("expected at most %d bytes, got %d", MaxBox, len(b))
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

// baseURLs is a list of different base URLs.
func baseURLs(p *[]string) Value {
	return keep(p, func(b json.RawMessage) ([]string, error) {
		urls, err := decode[[]string](b)
		if err != nil {
			return nil, err
		}
		return urls, CheckURLs(urls)
	}, same)
}

// CheckURLs refuses what is no list of different base URLs.
func CheckURLs(urls []string) error {
	if len(urls) == 0 || len(urls) > MaxMirrors {
		return errValue
	}
	for i, s := range urls {
		u, err := url.Parse(s)
		if err != nil {
			return errors.New("one of them is no URL") // the error quotes what may be a password
		}
		shown := explain.MaskURLs(s)
		if u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || len(s) > maxText {
			return fmt.Errorf("got %q", explain.Clip(shown, 80))
		}
		if slices.Contains(urls[:i], s) {
			return fmt.Errorf("%q stands twice", explain.Clip(shown, 80))
		}
	}
	return nil
}

// id is one line of printable ASCII.
func id(p *string, most int) Value {
	return keep(p, fromText(func(s string) (string, error) {
		if s == "" || len(s) > most || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
			return "", errValue
		}
		return s, nil
	}), same)
}
