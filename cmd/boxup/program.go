package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/pace"
)

// Set by the linker: the version, and the time of the build in RFC 3339. Without the latter the time of
// the commit is taken, where the build knew it.
var (
	version = "unknown"
	built   = ""
)

// The exit codes beside those that every command has and those of fetching.
const (
	codeLocked     = 6  // another boxup is running
	codeAvailable  = 10 // check: an update is there for this box
	codeHeld       = 11 // an update is there and waits: maintenance window, daily cap, set aside
	codeImproper   = 12 // the archive is no proper update
	codeScript     = 13 // the install script failed
	codeRolledBack = 14 // the check after the installation failed
)

const exitCodes = `Exit codes: 0 done, or up to date; 1 failed; 2 usage; 3 no mirror could be reached; 4 refused: what
came is not signed, is older than what was seen, is expired, or is another file; 5 too little room;
6 another boxup is running; 10 check alone: an update is there; 11 an update is there and waits, for the
maintenance window, for tomorrow's share of a metered link, or because it failed before; 12 the archive
is no proper update; 13 the install script failed; 14 the check after the installation failed.`

// Where things are by default.
const (
	defaultConfig = "/etc/boxup/config.json"
	defaultState  = "/var/lib/boxup"
	machineIDFile = "/etc/machine-id"
)

// program is what the commands have of the outside world, and the flags that they share.
type program struct {
	streams   cli.Streams
	fs        disk.FS
	built     time.Time                                  // zero: not known
	sleep     func(context.Context, time.Duration) error // for --splay
	random    func() float64                             // from 0 to below 1
	machineID string                                     // the file of the system's machine id

	configPath string
	stateDir   string // "": as the configuration says
	asJSON     bool
}

func system() program {
	return program{
		streams: cli.System(), built: buildTime(), sleep: pace.Sleep, random: rand.Float64, machineID: machineIDFile,
	}
}

// buildTime returns when the program was built, as far as that is known.
func buildTime() time.Time {
	if at, err := time.Parse(time.RFC3339, built); err == nil {
		return at
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return time.Time{}
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.time" {
			at, _ := time.Parse(time.RFC3339, s.Value) // the zero time means that it is not known
			return at
		}
	}
	return time.Time{}
}

func newRoot(p *program) *cobra.Command {
	root := &cobra.Command{
		Use:     "boxup",
		Version: version,
		Short:   "Keep this box up to date with signed updates",
		Long: `Boxup asks mirrors that nobody has to trust for updates, verifies all that they send against the root
that the box was given, and installs what is meant for this box.

What it is to do is in ` + defaultConfig + `, which boxup init writes; what it knows is in ` + defaultState + `.

` + exitCodes,
	}
	root.PersistentFlags().StringVar(&p.configPath, "config", defaultConfig, "configuration `file`")
	root.PersistentFlags().StringVar(&p.stateDir, "state", "", "state `directory` (default: as configured, else "+defaultState+")")
	root.AddCommand(p.initCommand(), p.checkCommand(), p.fetchCommand(), p.verifyCommand(), p.installCommand(),
		p.updateCommand(), p.statusCommand(), p.versionCommand())
	for _, cmd := range root.Commands() {
		tellDisk(cmd)
	}
	return root
}

// jsonFlag lets a command write its result as JSON.
func (p *program) jsonFlag(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVar(&p.asJSON, "json", false, "write the result as JSON")
	return cmd
}

// facts writes lines of a key and a value each; those without a value are left out.
func (p *program) facts(pairs ...string) {
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			fmt.Fprintf(p.streams.Out, "%s: %s\n", pairs[i], cli.Printable(pairs[i+1]))
		}
	}
}

func (p *program) warn(format string, args ...any) {
	p.streams.Warn("boxup", fmt.Sprintf(format, args...))
}

// logger writes the warnings of packages below.
func (p *program) logger() *slog.Logger { return warnings(p.streams.Err) }

func warnings(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{
		Level: slog.LevelWarn,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey { // a box without a clock would only confuse
				return slog.Attr{}
			}
			if a.Value.Kind() == slog.KindTime && a.Value.Time().IsZero() {
				return slog.Attr{}
			}
			return cli.MaskAttr(a)
		},
	}))
}

// splayFlag lets a command wait first.
func splayFlag(cmd *cobra.Command, splay *time.Duration) {
	cmd.Flags().DurationVar(splay, "splay", 0, "wait first, a random time of at most so `long`")
}

// delay waits for a random time of at most so long, so that a fleet does not ask all at once.
func (p *program) delay(ctx context.Context, splay time.Duration) error {
	if splay < 0 {
		return cli.Usagef("--splay: expected no negative duration, got %v", splay)
	}
	if splay == 0 {
		return nil
	}
	return p.sleep(ctx, time.Duration(p.random()*float64(splay)))
}

// locked says who is at work where a lock is held.
func locked(err error) error {
	if errors.Is(err, disk.ErrLocked) {
		return cli.WithCode(cli.WithHint(err, "another boxup is at work: wait until it is done; boxup status says what is known"), codeLocked)
	}
	return err
}
