package install

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/update"
	"github.com/openpowerquality/box-update-server/update/archive"
)

// RebootPolicy says whether the box reboots after an update was installed.
type RebootPolicy string

// The policies.
const (
	RebootDefault RebootPolicy = ""       // RebootAlways for archives that boxsign build did not make, else RebootAsked
	RebootAlways  RebootPolicy = "always" // after each update
	RebootAsked   RebootPolicy = "asked"  // if the script asked for it
	RebootNever   RebootPolicy = "never"  // Status still says that the script asked
)

// DefaultPath is the PATH of scripts and hooks by default.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Config says how to install.
type Config struct {
	// Dir is the state directory. All files are in its subdirectory install, which is made with mode 0700.
	Dir string

	Product update.Product // whose updates may be installed; "" for update.DefaultProduct

	// PreHooks and PostHooks are directories with programs that run before and after an update is installed. "", or a
	// directory that does not exist, means none.
	PreHooks, PostHooks string

	Timeout time.Duration // for each program that runs; 0 for 30 minutes
	Grace   time.Duration // between SIGTERM and SIGKILL, and for output held open in the background; 0 for 10 s

	Reboot        RebootPolicy
	RebootCommand []string // looked for on Path; nil for "reboot"

	MaxFailures    int  // failures after which a version is set aside; 0 for 3
	AllowDowngrade bool // to versions lower than the installed one

	Path string   // where scripts look for programs; "" for DefaultPath
	Home string   // HOME of scripts; "" for that of this process's user
	Env  []string // further variables for scripts, "name=value"

	Limits archive.Limits // for unpacking

	BootID string           // changes with each boot; "" for that of the kernel
	FS     disk.FS          // makes every durable change
	Now    func() time.Time // nil for time.Now
	Logger *slog.Logger     // nil for none
}

// Options say how to install one update.
type Options struct {
	// Unpacked is the signed size in bytes of all files in the archive, 0 if it is not known. So many bytes must be
	// free before anything is unpacked.
	Unpacked int64

	AllowDowngrade bool // to a version lower than the installed one
	Force          bool // even if the update is installed already or set aside
}

func (c Config) withDefaults() (Config, error) {
	policies := []RebootPolicy{RebootDefault, RebootAlways, RebootAsked, RebootNever}
	if !slices.Contains(policies, c.Reboot) {
		return Config{}, fmt.Errorf("reboot policy %q: expected always, asked or never", c.Reboot)
	}
	if c.Dir == "" {
		return Config{}, errors.New("expected a state directory, got none")
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return Config{}, err
	}
	if strings.Contains(dir, ":") {
		return Config{}, fmt.Errorf("state directory %s: expected no colon in its path, which PATH could not hold", dir)
	}
	c.Dir = dir
	c.Product = cmp.Or(c.Product, update.DefaultProduct)
	c.Timeout = cmp.Or(c.Timeout, 30*time.Minute)
	c.Grace = cmp.Or(c.Grace, 10*time.Second)
	c.MaxFailures = cmp.Or(c.MaxFailures, 3)
	c.Path = cmp.Or(c.Path, DefaultPath)
	c.BootID = cmp.Or(c.BootID, bootID())
	if c.RebootCommand == nil {
		c.RebootCommand = []string{"reboot"}
	}
	if c.Home == "" {
		c.Home, _ = os.UserHomeDir() // without one: "/"
		c.Home = cmp.Or(c.Home, "/")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}
