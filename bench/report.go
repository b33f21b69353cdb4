package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

const line = "%-42s %-6s %-26s %-26s %-8s %6s %-8s %s\n"

func printHeading(w io.Writer) {
	fmt.Fprintf(w, "\n"+line, "", "", "ours: median (range)", "theirs", "", "ratio", "target", "")
}

func printFigure(w io.Writer, f figure) {
	fmt.Fprintf(w, line, f.what, f.unit, f.ours, f.theirs, f.against, f.ratioText(), f.goalText(), strings.TrimSpace(f.verdict()+" "+f.notes()))
}

func printSummary(w io.Writer, figures []figure, took time.Duration) {
	var goals, missed int
	for _, f := range figures {
		if f.goal.kind != noGoal {
			goals++
		}
		if !f.met() {
			missed++
		}
	}
	fmt.Fprintf(w, "\n%d of %d targets met, %v, load at the end %s\n", goals-missed, goals, took.Round(time.Second), loadAverage())
}

// printMarkdown prints the machine and a table of the figures as docs/BENCHMARKS.md has them.
func printMarkdown(w io.Writer, machine string, figures []figure) {
	fmt.Fprintf(w, "\nMachine: %s\n\n", machine)
	fmt.Fprintln(w, "| figure | unit | ours | theirs | ratio | target | | command |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|---|")
	for _, f := range figures {
		theirs := strings.TrimSpace(f.theirs.String() + " " + f.against)
		cells := []string{f.what, f.unit, f.ours.String(), theirs, f.ratioText(), f.goalText(), f.verdict(), "`" + f.command + "`"}
		fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | "))
	}
	fmt.Fprintln(w)
	for _, f := range figures {
		if notes := f.notes(); notes != "" {
			fmt.Fprintf(w, "- %s: %s\n", f.what, notes)
		}
	}
}

// String returns the median and the range, "" for no value.
func (s sample) String() string {
	if len(s) == 0 {
		return ""
	}
	if len(s) == 1 {
		return number(s[0])
	}
	return fmt.Sprintf("%s (%s–%s)", number(s.median()), number(slices.Min(s)), number(slices.Max(s)))
}

// number returns v with three digits or, where it is greater, without a fraction.
func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

// notes returns the note and, if it matters, what other programs used of the machine.
func (f figure) notes() string {
	const noticeable = 0.05
	if f.others < noticeable {
		return f.note
	}
	return strings.TrimSpace(fmt.Sprintf("%s (other programs: %.0f%% of the machine)", f.note, 100*f.others))
}

func (f figure) ratioText() string {
	if len(f.theirs) == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", f.ratio())
}

func (f figure) goalText() string {
	switch f.goal.kind {
	case ratioAtLeast:
		return fmt.Sprintf("≥ %.2f", f.goal.value)
	case ratioAtMost:
		return fmt.Sprintf("≤ %.2f", f.goal.value)
	case valueAtMost:
		return fmt.Sprintf("≤ %g", f.goal.value)
	}
	return ""
}

func (f figure) verdict() string {
	switch {
	case f.goal.kind == noGoal:
		return ""
	case f.met():
		return "met"
	}
	return "MISSED"
}
