// Package tour_test takes the tours of this folder, types their commands on a terminal with the real programs, and
// holds what the terminal showed against what is stored:
//
//	NAME.sh    the tour: one command a line, which a person can run in the same order. All else are comments:
//	             # at "PROMPT" type "ANSWER"    after a command that asks: what a person answers
//	             # exits 10                     after a command that does not end with 0
//	             # shows "TEXT", "TEXT"         after a command: README shows only its lines that have one of these,
//	                                            and … for the others; "# shows" alone means no line
//	             # TEXT                         what comes, for the cast
//	NAME.txt   the commands with what the terminal showed
//	NAME.cast  the same for `asciinema play`, with a rhythm that is made
//
// README shows each tour in its section, command by command. The environment variable TOUR_UPDATE=1 makes the test write
// all of these anew instead: TOUR_UPDATE=1 go test -count=1 ./docs/tour
package tour_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/testworld"
)

func TestMain(m *testing.M) { os.Exit(testworld.RunWithPrograms(m)) }

// tours are those of README, in their order: each goes on where the one before ended.
var tours = []struct{ name, heading, title string }{
	{"signer", "### … a release signer", "Box Update Server: five minutes as a release signer"},
	{"operator", "### … an operator", "Box Update Server: five minutes as an operator"},
	{"mirror", "### … a mirror operator", "Box Update Server: five minutes as a mirror operator"},
	{"box", "### … a box", "Box Update Server: five minutes as a box"},
}

// step is one command of a tour.
type step struct {
	comment []string // what is said before it
	command string
	answers []answer
	exit    int
	shows   []string // texts of the lines that README shows
	all     bool     // README shows all lines

	shown string // what the terminal showed, normalized, with its colours
}

// answer is what a person types at a prompt.
type answer struct{ prompt, text string }

var (
	atLine    = regexp.MustCompile(`^# at "(.+)" type "(.*)"$`)
	exitsLine = regexp.MustCompile(`^# exits (\d+)$`)
	showsLine = regexp.MustCompile(`^# shows\b(.*)$`)
	quoted    = regexp.MustCompile(`"([^"]+)"`)
)

// parseTour reads a script.
func parseTour(t *testing.T, script string) []step {
	t.Helper()
	var steps []step
	var comment []string
	for line := range strings.Lines(script) {
		line = strings.TrimSuffix(line, "\n")
		if !strings.HasPrefix(line, "#") {
			steps, comment = append(steps, step{comment: comment, command: line, all: true}), nil
			continue
		}
		at, exits, shows := atLine.FindStringSubmatch(line), exitsLine.FindStringSubmatch(line), showsLine.FindStringSubmatch(line)
		if at == nil && exits == nil && shows == nil {
			comment = append(comment, line)
			continue
		}
		if len(steps) == 0 || comment != nil {
			t.Fatalf("%q does not follow a command", line)
		}
		last := &steps[len(steps)-1]
		switch {
		case at != nil:
			last.answers = append(last.answers, answer{at[1], at[2]})
		case exits != nil:
			last.exit, _ = strconv.Atoi(exits[1]) // digits
		default:
			last.all = false
			for _, m := range quoted.FindAllStringSubmatch(shows[1], -1) {
				last.shows = append(last.shows, m[1])
			}
		}
	}
	if comment != nil {
		t.Fatalf("%q is followed by no command", comment)
	}
	return steps
}

// colours are the escape sequences that change how text looks.
var colours = regexp.MustCompile(`\x1b\[[0-9;]*m`)

// lines returns what a command showed, without colours.
func (s step) lines() []string {
	return strings.Split(strings.TrimSuffix(colours.ReplaceAllString(s.shown, ""), "\n"), "\n")
}

// excerpt returns the lines that README shows.
func (s step) excerpt() []string {
	var out []string
	if s.shown == "" || !s.all && s.shows == nil {
		return nil
	}
	for _, line := range s.lines() {
		if s.all || slices.ContainsFunc(s.shows, func(text string) bool { return strings.Contains(line, text) }) {
			out = append(out, line)
		} else if len(out) == 0 || out[len(out)-1] != "…" {
			out = append(out, "…")
		}
	}
	return out
}

// transcript returns the text of a recording.
func transcript(steps []step) string {
	var b strings.Builder
	for _, s := range steps {
		b.WriteString("$ " + s.command + "\n")
		if s.shown != "" {
			b.WriteString(strings.Join(s.lines(), "\n") + "\n")
		}
	}
	return b.String()
}

// cast returns a recording as asciicast v2: words are typed, and what a command shows comes at once.
func cast(t *testing.T, title string, steps []step) string {
	t.Helper()
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	at := 0.0
	write := func(v any) {
		t.Helper()
		if err := encoder.Encode(v); err != nil {
			t.Fatal(err)
		}
	}
	show := func(after float64, text string) {
		at += after
		write([]any{json.Number(fmt.Sprintf("%.2f", at)), "o", strings.ReplaceAll(text, "\n", "\r\n")})
	}
	write(struct {
		Version int    `json:"version"`
		Width   int    `json:"width"`
		Height  int    `json:"height"`
		Title   string `json:"title"`
	}{2, columns, rows, title})
	for _, s := range steps {
		for _, c := range s.comment {
			show(1, "\x1b[2m"+c+"\x1b[0m\n")
		}
		show(0.5, "$ ")
		for word := range strings.SplitAfterSeq(s.command, " ") {
			show(0.15, word)
		}
		show(0.5, "\n")
		if s.shown != "" {
			show(0.3, strings.TrimSuffix(s.shown, "\n")+"\n")
		}
		show(0.2*float64(min(10, strings.Count(s.shown, "\n"))), "")
	}
	return b.String()
}

// section returns where in README the section of a tour begins and ends.
func section(t *testing.T, readme, heading string) (from, to int) {
	t.Helper()
	from = strings.Index(readme, "\n"+heading+"\n")
	if from < 0 {
		t.Fatalf("README has no %q", heading)
	}
	from += len(heading) + 2
	if to = strings.Index(readme[from:], "\n##"); to < 0 {
		t.Fatalf("nothing follows %q", heading)
	}
	return from, from + to
}

// showTour returns a section of README with what the recording has below each of its commands.
func showTour(t *testing.T, text string, steps []step) string {
	t.Helper()
	var out []string
	n, skip := 0, false
	for line := range strings.SplitSeq(text, "\n") {
		command, ok := strings.CutPrefix(line, "    $ ")
		switch {
		case ok:
			if n == len(steps) || command != steps[n].command {
				t.Fatalf("README has %q where the tour has %q", command, append(steps, step{})[n].command)
			}
			out = append(out, line)
			for _, shown := range steps[n].excerpt() {
				out = append(out, strings.TrimRight("    "+shown, " "))
			}
			n, skip = n+1, true
		case skip && strings.HasPrefix(line, "    "):
		default:
			out, skip = append(out, line), false
		}
	}
	if n < len(steps) {
		t.Fatalf("README lacks %q", steps[n].command)
	}
	return strings.Join(out, "\n")
}

func TestTours(t *testing.T) {
	t.Parallel()
	var recorded [][]step
	for _, tour := range tours {
		script, err := os.ReadFile(tour.name + ".sh")
		if err != nil {
			t.Fatal(err)
		}
		recorded = append(recorded, parseTour(t, string(script)))
	}
	record(t, recorded)

	path := filepath.Join("..", "..", "README.md")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	readme := string(b)
	for i, tour := range tours {
		hold(t, tour.name+".txt", transcript(recorded[i]))
		hold(t, tour.name+".cast", cast(t, tour.title, recorded[i]))
		from, to := section(t, readme, tour.heading)
		readme = readme[:from] + showTour(t, readme[from:to], recorded[i]) + readme[to:]
	}
	hold(t, path, readme)
}

// hold compares a stored file with what it should have, or writes it.
func hold(t *testing.T, path, want string) {
	t.Helper()
	if os.Getenv("TOUR_UPDATE") != "" {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	is, should := strings.Split(string(b), "\n"), strings.Split(want, "\n")
	for i := range min(len(is), len(should)) {
		if is[i] != should[i] {
			t.Errorf("%s:%d has\n%s\nbut the programs show\n%s\nTOUR_UPDATE=1 go test -count=1 ./docs/tour stores what they show", path, i+1, is[i], should[i])
			return
		}
	}
	if len(is) != len(should) {
		t.Errorf("%s has %d lines, expected %d; TOUR_UPDATE=1 go test -count=1 ./docs/tour writes them", path, len(is), len(should))
	}
}
