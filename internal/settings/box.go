package settings

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/mirror/fetch"
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

// Box is the configuration of a box: one JSON object. An unknown field is refused, since the operator would believe that
// it has an effect.
type Box struct {
	Mirrors   []string // base URLs; the box asks them in a random order that it keeps
	Redirects []string // origins to which a mirror may redirect, besides itself
	Root      string   // file of the pinned root
	State     string   // directory
	CAFile    string   // PEM; "": the authorities of the system

	Product   update.Product
	Hardware  string // is compared with updates that are only for some hardware
	MachineID string // "": that of the system, or else one that is made once

	AcceptStale    time.Duration // how long after its expiry a timestamp or snapshot is accepted
	Window         Window        // in which updates are installed
	Rate           int64         // bytes per second; 0: no cap
	MaxBytesPerDay int64         // of archives; 0: no cap
	Patience       time.Duration // how long a command waits while nothing arrives; 0: each mirror is asked once

	Reboot      string        // "always", "asked" or "never"; "": depends on the format of the archive
	Timeout     time.Duration // of a program that an installation runs; 0: the default
	MaxFailures int           // after which an update is set aside; 0: the default
	PreInstall  string        // directory of hooks
	PostInstall string        // directory of hooks
}

// Settings returns the declarations of all settings, bound to c.
func (c *Box) Settings() []Setting {
	return []Setting{
		{"mirrors", "", baseURLs(&c.Mirrors)},
		{"redirects", "", baseURLs(&c.Redirects)},
		{"root", "", path(&c.Root, "a root file")},
		{"state", "", path(&c.State, "a directory", DefaultState)},
		{"ca_file", "", path(&c.CAFile, "a file of certificates")},
		{"product", "", product(&c.Product)},
		{"hardware", "", identifier(&c.Hardware, 64)},
		{"machine_id", "", identifier(&c.MachineID, MaxMachineID)},
		{"accept_stale", "", duration(&c.AcceptStale, 0, 365*day)},
		{"window", "", keep(&c.Window, `local times such as "02:00-04:00"`, fromText(ParseWindow), nil)},
		{"rate", "", size(&c.Rate, "a number of bytes per second", 1, 1<<40)},
		{"max_bytes_per_day", "", size(&c.MaxBytesPerDay, "a number of bytes", update.BlockSize, 1<<60)},
		{"patience", "", duration(&c.Patience, 0, day, time.Minute)},
		{"reboot", "", word(&c.Reboot, `"always", "asked" or "never"`, "", "always", "asked", "never")},
		{"timeout", "", duration(&c.Timeout, 0, day)},
		{"max_failures", "", number(&c.MaxFailures, "a number", 1, 100)},
		{"pre_install", "", path(&c.PreInstall, "a directory", "pre-install.d")},
		{"post_install", "", path(&c.PostInstall, "a directory", "post-install.d")},
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

// ParseBox parses a configuration that lies at path. No field is required. Relative paths are paths from the directory of
// the configuration.
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
	if err := errors.Join(append(Check(all), err)...); err != nil {
		return Box{}, err
	}
	if path, err = filepath.Abs(path); err != nil {
		return Box{}, err
	}
	Resolve(all, filepath.Dir(path))
	return c, nil
}

// ParseObject parses one JSON object in which each key stands once.
func ParseObject(b []byte) (map[string]json.RawMessage, error) {
	if len(b) > MaxBox {
		return nil, fmt.Errorf("expected at most %d bytes, got %d", MaxBox, len(b))
	}
	object, err := parseObject(b)
	if err != nil {
		return nil, err
	}
	seen := map[json.Token]bool{}
	d := json.NewDecoder(bytes.NewReader(Plain(b)))
	_, err = d.Token() // the brace
	for err == nil && d.More() {
		key, keyErr := d.Token()
		if seen[key] {
			return nil, fmt.Errorf("expected %.40q once, got it twice", key)
		}
		seen[key] = true
		err = errors.Join(keyErr, d.Decode(new(json.RawMessage)))
	}
	return object, err
}

// baseURLs is a list of different base URLs.
func baseURLs(p *[]string) Value {
	want := fmt.Sprintf("a list of 1 to %d different URLs, http:// or https://", MaxMirrors)
	return keep(p, want, func(b json.RawMessage) ([]string, error) {
		urls, err := decode[[]string](b)
		if err != nil || len(urls) == 0 || len(urls) > MaxMirrors {
			return nil, errValue
		}
		for i, s := range urls {
			if err := fetch.CheckURL(s); err != nil {
				return nil, err
			}
			if len(s) > maxText {
				return nil, fmt.Errorf("%q has more than %d bytes", explain.Clip(explain.MaskURLs(s), 80), maxText)
			}
			if slices.Contains(urls[:i], s) {
				return nil, fmt.Errorf("%q is there twice", explain.MaskURLs(s))
			}
		}
		return urls, nil
	}, nil)
}
