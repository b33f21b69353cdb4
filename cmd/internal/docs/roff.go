//go:build docs

package docs

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// page is a man page in the language of man(7).
type page struct{ b strings.Builder }

// escaper escapes what roff does not print as it is.
var escaper = strings.NewReplacer(`\`, `\e`, "-", `\-`, "~", `\(ti`, "^", `\(ha`, "`", `\(ga`, "'", `\(aq`, `"`, `\(dq`)

// escape escapes text, which may begin a line.
func escape(text string) string {
	text = escaper.Replace(text)
	if strings.HasPrefix(text, ".") {
		text = `\&` + text
	}
	return text
}

func (p *page) line(format string, args ...any) { fmt.Fprintf(&p.b, format+"\n", args...) }

func (p *page) header(name string, section int, date, source string) {
	p.line(`.TH "%s" "%d" "%s" "%s" "Box Update Server"`, escape(strings.ToUpper(name)), section, date, escape(source))
}

func (p *page) name(name, short string) {
	p.section("NAME")
	p.line(`%s \- %s`, escape(name), escape(strings.ToLower(short[:1])+short[1:]))
}

func (p *page) section(title string)    { p.line(`.SH "%s"`, escape(title)) }
func (p *page) subsection(title string) { p.line(`.SS "%s"`, escape(title)) }

func (p *page) synopsis(cmd *cobra.Command) {
	_, args, _ := strings.Cut(cmd.Use, " ")
	if args == "" && cmd.HasSubCommands() {
		args = "COMMAND"
	}
	p.line(`.B %s`, escape(cmd.CommandPath()))
	p.line(`%s`, escape(strings.TrimSpace(args+" [flags]")))
}

// paragraphs prints a text whose paragraphs are separated by empty lines. A line that begins with a space stands for itself.
func (p *page) paragraphs(text string) {
	for paragraph := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		if paragraph == "" {
			continue
		}
		p.line(".PP")
		for line := range strings.Lines(paragraph) {
			line = strings.TrimSuffix(line, "\n")
			if strings.HasPrefix(line, " ") {
				p.line(".br")
			}
			p.line("%s", escape(strings.TrimSpace(line)))
		}
	}
}

// entry prints a name in bold, the word for its value, and what it stands for.
func (p *page) entry(name, value, text string) {
	p.line(".TP")
	if value != "" {
		p.line(`\fB%s\fR \fI%s\fR`, escape(name), escape(value))
	} else {
		p.line(`\fB%s\fR`, escape(name))
	}
	p.line("%s", escape(text))
}

func (p *page) entries(title string, entries []Entry) {
	if len(entries) == 0 {
		return
	}
	p.section(title)
	for _, e := range entries {
		p.entry(e.Name, "", e.Text)
	}
}

// codes prints exit codes, one per line.
func (p *page) codes(codes string) {
	for line := range strings.Lines(codes) {
		code, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		p.entry(code, "", strings.TrimSpace(text))
	}
}

func (p *page) example(text string) {
	p.line(".EX")
	for line := range strings.Lines(text) {
		p.line("%s", escape(strings.TrimSuffix(line, "\n")))
	}
	p.line(".EE")
}

// commands lists the commands below cmd.
func (p *page) commands(cmd *cobra.Command) {
	if !cmd.HasAvailableSubCommands() {
		return
	}
	p.section("COMMANDS")
	list := func(id string) {
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() && sub.GroupID == id {
				p.entry(sub.Name(), "", sub.Short+".")
			}
		}
	}
	for _, g := range cmd.Groups() {
		p.subsection(g.Title)
		list(g.ID)
	}
	if len(cmd.Groups()) > 0 {
		p.subsection("Other")
	}
	list("")
}

// seeAlso refers to the command above cmd, those below it, and the configuration.
func (p *page) seeAlso(cmd *cobra.Command, c *Configuration) {
	var pages []string
	if cmd.HasParent() {
		pages = append(pages, pageName(cmd.Parent())+"(1)")
	}
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			pages = append(pages, pageName(sub)+"(1)")
		}
	}
	if !cmd.HasParent() {
		for _, program := range []string{"boxsign", "boxup", "box-update-server"} {
			if program != cmd.Name() {
				pages = append(pages, program+"(1)")
			}
		}
	}
	if c != nil {
		pages = append(pages, c.Name+"(5)")
	}
	p.section("SEE ALSO")
	p.references(pages)
}

func (p *page) references(pages []string) {
	for i, page := range pages {
		name, section, _ := strings.Cut(page, "(")
		end := ","
		if i == len(pages)-1 {
			end = ""
		}
		p.line(`.BR \%%%s (%s%s`, escape(name), section, end)
	}
}
