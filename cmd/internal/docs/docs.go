//go:build docs

// Package docs writes the man pages and shell completions of a command, for Debian packages. It is built only with
// the tag docs, so that the programs themselves don't link the generator of man pages:
//
//	go run -tags docs ./cmd/boxsign DIR
//
// writes
//
//	DIR/man/boxsign.1, DIR/man/boxsign-publish.1, …   one page per command
//	DIR/bash/boxsign, DIR/zsh/_boxsign, DIR/fish/boxsign.fish
//
// The date on the pages is $SOURCE_DATE_EPOCH if that is set, else today.
package docs

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/openpowerquality/box-update-server/cmd/internal/command"
	"github.com/openpowerquality/box-update-server/internal/cli"
)

// documenting returns the command that writes the documentation of root into the directory in its argument.
func documenting(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:  root.Name() + " DIR",
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return write(root, args[0]) },
	}
}

// Run writes the documentation of root into the directory in the argument of this process, and returns the exit code.
func Run(root *cobra.Command, s cli.Streams) int {
	return command.Run(context.Background(), root.Name(), documenting(root), os.Args[1:], s)
}

func write(root *cobra.Command, dir string) error {
	name := root.Name()
	for _, sub := range []string{"man", "bash", "zsh", "fish"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.DisableAutoGenTag = true
	return errors.Join(
		doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: name, Manual: "Box Update Server"}, filepath.Join(dir, "man")),
		root.GenBashCompletionFileV2(filepath.Join(dir, "bash", name), true),
		root.GenZshCompletionFile(filepath.Join(dir, "zsh", "_"+name)),
		root.GenFishCompletionFile(filepath.Join(dir, "fish", name+".fish"), true),
	)
}
