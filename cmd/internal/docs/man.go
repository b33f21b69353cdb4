//go:build docs

package docs

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/cmd/internal/command"
	"github.com/openpowerquality/box-update-server/internal/settings"
)

// book writes the man pages of one program.
type book struct {
	dir, program, date string
	manual             Manual
}

// setDate sets the date of the pages: epoch in Unix seconds or, if it is "", today.
func (b *book) setDate(epoch string) error {
	at := time.Now()
	if epoch != "" {
		seconds, err := strconv.ParseInt(epoch, 10, 64)
		if err != nil {
			return fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
		}
		at = time.Unix(seconds, 0)
	}
	b.date = at.UTC().Format("Jan 2006")
	return nil
}

// writeCommands writes the pages of cmd and of all commands below it.
func (b *book) writeCommands(cmd *cobra.Command) error {
	err := b.writeCommand(cmd)
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			err = errors.Join(err, b.writeCommands(sub))
		}
	}
	return err
}

func pageName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

func (b *book) writeCommand(cmd *cobra.Command) error {
	var p page
	p.header(pageName(cmd), 1, b.date, b.program)
	p.name(pageName(cmd), cmd.Short)
	p.section("SYNOPSIS")
	p.synopsis(cmd)
	text, codes := command.Describe(cmd)
	more, moreCodes, moreText := cutCodes(cmd.Annotations[command.ManualKey])
	p.section("DESCRIPTION")
	p.paragraphs(text)
	p.paragraphs(more)
	p.commands(cmd)
	if groups := command.Flags(cmd); len(groups) > 0 {
		p.section("OPTIONS")
		for _, g := range groups {
			if g.Title != "Flags" {
				p.subsection(g.Title)
			}
			for _, f := range g.Flags {
				name := "--" + f.Name
				if f.Shorthand != "" {
					name = "-" + f.Shorthand + ", " + name
				}
				value, text := command.DescribeFlag(f)
				p.entry(name, value, text+".")
			}
		}
	}
	p.section("EXIT STATUS")
	if codes += moreCodes; codes == "" {
		codes = "  0  done\n  1  failed\n  2  usage"
	}
	if !strings.Contains(codes, "stopped by a signal") && !strings.Contains(codes, "130") {
		codes += "\n  130  interrupted by Ctrl-C"
	}
	p.codes(codes)
	p.paragraphs(moreText)
	p.entries("ENVIRONMENT", b.manual.Environment)
	p.entries("FILES", b.manual.Files)
	p.section("EXAMPLES")
	p.example(command.Example(cmd))
	p.seeAlso(cmd, b.manual.Configuration)
	return b.write(pageName(cmd)+".1", p)
}

// cutCodes returns the three parts of a text: what comes before exit codes, these, and what comes after an empty line.
func cutCodes(text string) (before, codes, after string) {
	before, codes, found := strings.Cut(text, "Exit codes:\n")
	if found {
		codes, after, _ = strings.Cut(codes, "\n\n")
	}
	return before, codes, after
}

// writeConfiguration writes the page of the configuration.
func (b *book) writeConfiguration() error {
	c := b.manual.Configuration
	if c == nil {
		return nil
	}
	meaning := maps.Clone(c.Meaning)
	var p page
	p.header(c.Name, 5, b.date, b.program)
	p.name(c.Name, c.Short)
	p.section("DESCRIPTION")
	p.paragraphs(c.Text)
	var missing []string
	for i, g := range c.Groups {
		if i == 0 || g.Title != "" {
			p.section(strings.ToUpper(g.Title))
		}
		for _, s := range g.Settings {
			if s.Retired() {
				continue
			}
			text := meaning[s.Key]
			delete(meaning, s.Key)
			if s.Help != "" {
				text = strings.ReplaceAll(s.Help, "`", "")
			}
			if text == "" {
				missing = append(missing, s.Key)
			}
			p.setting(s, text)
		}
	}
	if unknown := slices.Sorted(maps.Keys(meaning)); len(missing)+len(unknown) > 0 {
		return fmt.Errorf("%s: the settings %q have no text, and the texts %q no setting", c.Name, missing, unknown)
	}
	p.section("EXAMPLES")
	p.example(c.Example)
	p.section("SEE ALSO")
	p.references([]string{b.program + "(1)"})
	return b.write(c.Name+".5", p)
}

func (b *book) write(name string, p page) error {
	return os.WriteFile(filepath.Join(b.dir, name), []byte(p.b.String()), 0o644)
}

// setting describes one setting.
func (p *page) setting(s settings.Setting, text string) {
	text += ". The value is " + s.Want
	if s.IsTruth && s.Default() == "" {
		text += "; the default is false"
	}
	if def := s.Default(); def != "" {
		text += "; the default is " + def
	}
	p.entry(s.Key, "", text+".")
}
