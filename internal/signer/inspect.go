package signer

import (
	"bufio"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/update"
	"github.com/openpowerquality/box-update-server/update/archive"
)

// inspection is the result of inspect as JSON.
type inspection struct {
	facts
	Proper   bool     `json:"proper"`
	Problems []string `json:"problems"`
	Contents []entry  `json:"contents"`
}

// entry is an entry of an archive as JSON.
type entry struct {
	Name    string    `json:"name"`
	Mode    string    `json:"mode"` // as ls writes it
	Size    int64     `json:"size"`
	Time    time.Time `json:"time"`
	Link    string    `json:"link,omitempty"`
	Problem string    `json:"problem,omitempty"`
}

func newInspect(s cli.Streams) *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:   "inspect FILE",
		Short: "List an update and say whether it is a proper one",
		Long:  `List the contents of an archive and say whether it is a proper update. Exit code 1 says that it is not.`,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return inspect(cmd.Context(), s, args[0], asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

func inspect(ctx context.Context, s cli.Streams, path string, asJSON bool) error {
	name, err := parseArchivePath(filepath.Base(path))
	if err != nil {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close() // opened for reading
	show := inspectText
	if asJSON {
		show = inspectJSON
	}
	proper, err := show(ctx, s, file, name)
	if err == nil && !proper {
		err = fmt.Errorf("%v is not a proper update", name)
	}
	return err
}

func inspectJSON(ctx context.Context, s cli.Streams, file *os.File, name update.Name) (proper bool, err error) {
	result := inspection{Problems: []string{}, Contents: []entry{}}
	o := archive.InspectOptions{Entry: func(e archive.Entry) error {
		result.Contents = append(result.Contents, entry{e.Name, modeText(e.Mode), e.Size, e.Time.UTC(), e.Link, e.Problem})
		return nil
	}}
	what, report, err := examine(ctx, file, name, o)
	if err != nil {
		return false, err
	}
	result.facts, result.Proper = what, report.Proper()
	result.Problems = append(result.Problems, report.Problems...)
	return result.Proper, s.JSON(result)
}

func inspectText(ctx context.Context, s cli.Streams, file *os.File, name update.Name) (proper bool, err error) {
	out := bufio.NewWriter(s.Out)
	s.Out = out
	o := archive.InspectOptions{Entry: func(e archive.Entry) error {
		_, err := fmt.Fprintln(out, line(e))
		return err
	}}
	what, report, err := examine(ctx, file, name, o)
	if err != nil {
		return false, err
	}
	if err := what.print(s); err != nil {
		return false, err
	}
	for _, p := range report.Problems {
		fmt.Fprintln(out, "problem:", cli.Printable(p)) // Flush reports the error
	}
	verdict := "a proper update"
	if !report.Proper() {
		verdict = "not a proper update"
	}
	fmt.Fprintln(out, "verdict:", verdict)
	return report.Proper(), out.Flush()
}

// line describes an entry as tar -tv does, with its time in UTC and nothing that a terminal obeys.
func line(e archive.Entry) string {
	target := ""
	switch {
	case e.Link == "":
	case e.Mode&fs.ModeSymlink != 0:
		target = " -> " + cli.Printable(e.Link)
	default:
		target = " link to " + cli.Printable(e.Link)
	}
	return fmt.Sprintf("%s %9d %s %s%s", modeText(e.Mode), e.Size, e.Time.UTC().Format("2006-01-02 15:04"), cli.Printable(e.Name), target)
}

// modeText writes a mode as ls does; only the letter of a symbolic link differs from Go's.
func modeText(m fs.FileMode) string { return strings.Replace(m.String(), "L", "l", 1) }
