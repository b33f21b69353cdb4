package main

import (
	"context"
	"fmt"
	"runtime"
	"slices"
)

// A side measures one program once and returns the value.
type side func(context.Context) (float64, error)

// A figure is one measured line of the report.
type figure struct {
	family  string
	what    string
	unit    string
	command string // what makes it
	ours    sample
	theirs  sample // empty when nothing is compared
	against string // whose values theirs are
	goal    goal
	note    string
	others  float64 // the part of the machine that other programs used, 0 to 1
}

// A sample is the values of one side, in the order of the runs.
type sample []float64

// A goal is what a figure is to reach.
type goal struct {
	kind  goalKind
	value float64
}

type goalKind int

// The kinds of goals.
const (
	noGoal       goalKind = iota
	ratioAtLeast          // the ratio of ours to theirs
	ratioAtMost           // the same, where less is better
	valueAtMost           // our value
)

// run runs both sides once unmeasured and then l.pairs times alternately, and fills in f's values.
func (l *lab) run(ctx context.Context, f *figure, ours, theirs side) error {
	for _, warm := range []side{ours, theirs} {
		if _, err := warm(ctx); err != nil {
			return fmt.Errorf("%s: first run: %w", f.what, err)
		}
	}
	return f.alternate(ctx, l.pairs, ours, theirs)
}

// alternate runs both sides alternately, n times each, and fills in f's values.
func (f *figure) alternate(ctx context.Context, n int, ours, theirs side) error {
	for range n {
		a, err := ours(ctx)
		if err != nil {
			return fmt.Errorf("%s: ours: %w", f.what, err)
		}
		b, err := theirs(ctx)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", f.what, f.against, err)
		}
		f.ours, f.theirs = append(f.ours, a), append(f.theirs, b)
	}
	return nil
}

// alone runs one side l.pairs times and fills in f's values.
func (l *lab) alone(ctx context.Context, f figure, ours side) error {
	for range l.pairs {
		v, err := ours(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", f.what, err)
		}
		f.ours = append(f.ours, v)
	}
	l.add(f)
	return nil
}

// add prints a figure, with what other programs used of the machine since the last one, and keeps it
// for the summary.
func (l *lab) add(f figure) {
	now, err := l.children.usage()
	if err != nil {
		l.say("bench: %v", err)
	}
	f.others = now.others(l.since, runtime.NumCPU())
	l.since = now
	l.figures = append(l.figures, f)
	printFigure(l.out, f)
}

// median returns the middle value, the mean of the two in the middle for an even number, 0 for none.
func (s sample) median() float64 {
	if len(s) == 0 {
		return 0
	}
	v := slices.Sorted(slices.Values(s))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// ratio returns the median of the ratios of the pairs, 0 where nothing is compared.
func (f figure) ratio() float64 {
	var r sample
	for i := range min(len(f.ours), len(f.theirs)) {
		r = append(r, f.ours[i]/f.theirs[i])
	}
	return r.median()
}

// met reports whether f reaches its goal; one without a goal does.
func (f figure) met() bool {
	switch f.goal.kind {
	case ratioAtLeast:
		return f.ratio() >= f.goal.value
	case ratioAtMost:
		return f.ratio() <= f.goal.value
	case valueAtMost:
		return f.ours.median() <= f.goal.value
	}
	return true
}
