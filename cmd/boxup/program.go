package main

import (
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/cmd/internal/command"
	"github.com/openpowerquality/box-update-server/internal/box"
	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/internal/pace"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// The linker sets the version, and in RFC 3339 when the source was committed.
var (
	version = "unknown"
	built   = ""
)

const exitCodes = "\n\nExit codes:" + `
   0  done, or up to date
   1  failed
   2  usage
   3  no mirror could be reached
   4  refused: not signed, older than before, expired, or another file
   5  too little space
   6  another boxup is running
  10  (check only) an update is available
  11  an update waits: for the window, for tomorrow's bytes, or after a failure
  12  the archive is no proper update
  13  the install script failed
  14  the check after the installation failed
 130  interrupted by Ctrl-C`

// machineIDFile is the file with the machine id of the system, see machine-id(5).
const machineIDFile = "/etc/machine-id"

// program holds what the commands use of the outside world, and the flags that they share.
type program struct {
	streams cli.Streams
	box     box.Box // connect directs its messages to streams
	meter   *cli.Meter
	asJSON  bool
}

func system() program {
	return program{
		streams: cli.System(),
		box:     box.Box{Built: command.BuildTime(built), Sleep: pace.Sleep, Random: rand.Float64, MachineIDFile: machineIDFile},
	}
}

// connect sets up the box to write its messages and its progress to the streams of the program.
func (p *program) connect() {
	p.meter = p.streams.NewMeter()
	p.box.Version = version
	p.box.Now = p.streams.Now
	p.box.Logger = warnings(p.meter)
	messages := p.streams
	messages.Err = p.meter
	p.box.Warn = func(message string) { messages.Warn("boxup", message) }
	var planned atomic.Pointer[update.Name]
	p.box.Progress = func(rel trust.Release, done int64) {
		name := rel.Name()
		if was := planned.Swap(&name); was == nil || *was != name {
			p.meter.Plan(1, rel.Length())
		}
		p.meter.Show(name.String(), rel.Length(), done)
	}
}

func newRoot(p *program) *cobra.Command {
	p.connect()
	root := &cobra.Command{
		Use:   "boxup",
		Short: "Keep this box up to date with signed updates",
		Long: `Keep this box up to date: ask mirrors for updates, verify them by the root that this box trusts, and install
those that are meant for this box. Nobody has to trust the mirrors.` + exitCodes,
		Example: "  boxup update",
	}
	root.PersistentFlags().StringVar(&p.box.ConfigPath, "config", box.DefaultConfig, "Configuration `FILE`")
	root.PersistentFlags().StringVar(&p.box.StateDir, "state", "", "State `DIR` (default as configured, or "+box.DefaultState+")")
	command.Add(root, "Set up and look", p.initCommand(), p.statusCommand(), p.verifyCommand())
	command.Add(root, "Update", p.updateCommand(), p.checkCommand(), p.fetchCommand(), p.installCommand())
	for _, cmd := range root.Commands() {
		p.wrap(cmd)
	}
	command.AddQuiet(root, "status")
	command.AddVersion(root, p.streams, version, p.box.Built)
	return root
}

// wrap wraps the RunE of a command, so that it shows what is waited for and ends the display of progress, and so that an
// error of the local disk gets the exit code and the hint of the disk.
func (p *program) wrap(cmd *cobra.Command) {
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		cmd.SetContext(pace.ObserveWaits(cmd.Context(), p.meter.Wait))
		err := run(cmd, args)
		p.meter.End()
		return box.DiskError(err)
	}
}

// jsonFlag lets a command write its result as JSON.
func (p *program) jsonFlag(cmd *cobra.Command) *cobra.Command {
	command.AddJSON(cmd, &p.asJSON)
	return cmd
}

// warnings returns a logger that writes warnings and errors to w, without their time.
func warnings(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{
		Level: slog.LevelWarn,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey { // the clock of a box may be wrong, and would mislead
				return slog.Attr{}
			}
			if a.Value.Kind() == slog.KindTime && a.Value.Time().IsZero() {
				return slog.Attr{}
			}
			return explain.MaskAttr(a)
		},
	}))
}

// splayFlag adds the flag that lets a command wait first.
func splayFlag(cmd *cobra.Command, splay *time.Duration) {
	cmd.Flags().DurationVar(splay, "splay", 0, "Wait for a random time of less than `DURATION` first")
}

// delay waits for a random time of less than splay. It refuses a negative splay.
func (p *program) delay(ctx context.Context, splay time.Duration) error {
	if splay < 0 {
		return status.Usagef("--splay: expected no negative duration, got %v", splay)
	}
	return p.box.Delay(ctx, splay)
}
