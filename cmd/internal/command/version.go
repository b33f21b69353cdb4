package command

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
)

// BuildTime returns when the source of this program was committed: the time is not earlier, whatever the clock says.
// linked is that time in RFC 3339, as the linker set it; without it, the go command may have noted the time. It is the
// zero time if neither is known.
func BuildTime(linked string) time.Time {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return builtFrom(linked, info.Settings)
}

// builtFrom prefers the time that the linker set to the one that the go command noted.
func builtFrom(text string, settings []debug.BuildSetting) time.Time {
	for _, s := range settings {
		if s.Key == "vcs.time" && text == "" {
			text = s.Value
		}
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}
	}
	return at
}

// build is what a program says of itself.
type build struct {
	Version  string `json:"version"`
	Built    string `json:"built"` // RFC 3339; "" if it is not known
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// AddVersion gives root the flag --version, which prints its name and version, and the command version, which prints how
// it was built. built is the result of BuildTime.
func AddVersion(root *cobra.Command, s cli.Streams, version string, built time.Time) {
	root.Version = version
	b := build{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if !built.IsZero() {
		b.Built = built.UTC().Format(time.RFC3339)
	}
	asJSON := false
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Show the version of " + root.Name(),
		Example: "  " + root.Name() + " version --json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if asJSON {
				return s.JSON(b)
			}
			text := "version: " + b.Version + "\n"
			if b.Built != "" {
				text += "built: " + b.Built + "\n"
			}
			_, err := fmt.Fprintf(s.Out, "%sgo: %s\nplatform: %s\n", text, b.Go, b.Platform)
			return err
		},
	}
	AddJSON(cmd, &asJSON)
	root.AddCommand(ShowFlags(cmd))
}
