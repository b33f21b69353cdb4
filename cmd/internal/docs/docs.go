//go:build docs

package docs

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/cmd/internal/command"
	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/settings"
)

// Manual is what the pages of a program say beyond its help.
type Manual struct {
	Files         []Entry
	Environment   []Entry
	Configuration *Configuration // nil: it has none
}

// Entry is a name and what it stands for.
type Entry struct{ Name, Text string }

// Configuration describes a configuration file.
type Configuration struct {
	Name    string // of the page, such as "boxup.json"
	Short   string // what the file is for
	Text    string // paragraphs
	Groups  []settings.Group
	Meaning map[string]string // of settings that have no flag, by key
	Example string
}

// Run writes the documentation of root into the directory in the argument of this process, and returns the exit code.
func Run(root *cobra.Command, m Manual, s cli.Streams) int {
	name := root.Name()
	return command.Run(context.Background(), name, &cobra.Command{
		Use:  name + " DIR",
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return write(root, m, args[0]) },
	}, os.Args[1:], s)
}

func write(root *cobra.Command, m Manual, dir string) error {
	name := root.Name()
	for _, sub := range []string{"man", "bash", "zsh", "fish"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	pages := book{dir: filepath.Join(dir, "man"), program: name, manual: m}
	if err := pages.setDate(os.Getenv("SOURCE_DATE_EPOCH")); err != nil {
		return err
	}
	return errors.Join(
		pages.writeCommands(root),
		pages.writeConfiguration(),
		root.GenBashCompletionFileV2(filepath.Join(dir, "bash", name), true),
		root.GenZshCompletionFile(filepath.Join(dir, "zsh", "_"+name)),
		root.GenFishCompletionFile(filepath.Join(dir, "fish", name+".fish"), true),
	)
}
