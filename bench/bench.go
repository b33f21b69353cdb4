package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A bench is to a family what testing.B is to a benchmark: it starts programs, makes data, measures and
// keeps the figures. Its methods end the family where something fails. It belongs to one goroutine.
type bench struct {
	ctx           context.Context
	out, progress io.Writer
	dir           string // for data, removed at the end
	server        string // the box-update-server under test
	short         bool
	pairs         int           // runs of each side
	load          time.Duration // how long one run loads a server, whole seconds
	figures       []figure
	cleanups      []func() // of this scope
	live          map[*process]bool
	since         usage // when the last figure was done
}

// A failure ends a family.
type failure struct{ error }

// check ends the family if err is not nil.
func (b *bench) check(err error) {
	if err != nil {
		panic(failure{err})
	}
}

func (b *bench) fatalf(format string, args ...any) { b.check(fmt.Errorf(format, args...)) }

// cleanup has f called at the end of the scope, the last one first.
func (b *bench) cleanup(f func()) { b.cleanups = append(b.cleanups, f) }

// scope calls f, and then what f passed to cleanup: the end of f's programs and data.
func (b *bench) scope(f func()) {
	outer := b.cleanups
	b.cleanups = nil
	defer func() {
		for _, c := range slices.Backward(b.cleanups) {
			c()
		}
		b.cleanups = outer
	}()
	f()
}

// attempt calls f in a scope of its own and returns the failure that ended it.
func (b *bench) attempt(f func()) (err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case failure:
			err = r.error
		default:
			panic(r)
		}
	}()
	b.scope(f)
	return nil
}

// run measures the families one after the other. One that fails does not keep the others.
func (b *bench) run(families []family, markdown bool) error {
	b.live = make(map[*process]bool)
	begin := time.Now()
	var m string
	failed := []error{b.attempt(func() {
		b.check(raiseFileLimit())
		if b.server == "" {
			b.server = b.build("box-update-server")
		}
		m = describeMachine(b.ctx)
		b.since = b.usage()
	})}
	if failed[0] != nil {
		return failed[0]
	}
	fmt.Fprintln(b.out, m)
	printHeading(b.out)
	for _, f := range families {
		if err := b.attempt(func() { f.measure(b) }); err != nil {
			fmt.Fprintf(b.progress, "bench: %s: %v\n", f.name, err)
			failed = append(failed, fmt.Errorf("%s: %w", f.name, err))
		}
		if b.ctx.Err() != nil {
			return b.ctx.Err()
		}
	}
	printSummary(b.out, b.figures, time.Since(begin))
	if markdown {
		printMarkdown(b.out, m, b.figures)
	}
	return errors.Join(failed...)
}

// build builds a command of the project as the Makefile does and returns the path of the program.
func (b *bench) build(command string) string {
	const project = "github.com/openpowerquality/box-update-server"
	path := filepath.Join(b.dir, "bin", command)
	root, err := exec.CommandContext(b.ctx, "go", "list", "-m", "-f", "{{.Dir}}", project).Output()
	b.check(err)
	cmd := exec.CommandContext(b.ctx, filepath.Join(strings.TrimSpace(string(root)), "packaging", "build"), filepath.Dir(path), "", command)
	if out, err := cmd.CombinedOutput(); err != nil {
		b.fatalf("build %s: %w: %s", command, err, out)
	}
	return path
}

// newDir makes a directory and removes it at the end of the scope.
func (b *bench) newDir(name string) string {
	dir, err := os.MkdirTemp(b.dir, name+"-*")
	b.check(err)
	b.cleanup(func() { _ = os.RemoveAll(dir) }) // what it leaves, the end of the run removes
	return dir
}

// write writes a file into a new directory and returns its path.
func (b *bench) write(name, text string) string {
	path := filepath.Join(b.newDir("file"), name)
	b.check(os.WriteFile(path, []byte(text), 0o644))
	return path
}

// raiseFileLimit lets this process and its children have as many open files as they are allowed. The
// explicit call matters: without it the Go runtime starts children with the lower limit.
func raiseFileLimit() error {
	const wanted = 16384
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return fmt.Errorf("limit of open files: %w", err)
	}
	r.Max = max(r.Max, wanted)
	r.Cur = r.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return fmt.Errorf("limit of open files: %w: raise it to %d (ulimit -n)", err, wanted)
	}
	return nil
}

// A figure is one measured line of the report.
type figure struct {
	what, unit string
	command    string // what makes it
	ours       sample
	theirs     sample // empty when nothing is compared
	against    string // whose values theirs are
	goal       goal
	note       string
	others     float64 // the part of the machine that other programs used, 0 to 1
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

// A side measures one program once and returns the value.
type side func() float64

// pair runs both sides once unmeasured and then b.pairs times alternately. It returns f with the values,
// for add: a note may have to wait for them.
func (b *bench) pair(f figure, ours, theirs side) figure {
	ours()
	theirs()
	for range b.pairs {
		f.ours = append(f.ours, ours())
		f.theirs = append(f.theirs, theirs())
	}
	return f
}

// alone runs one side b.pairs times and adds f with the values.
func (b *bench) alone(f figure, ours side) {
	for range b.pairs {
		f.ours = append(f.ours, ours())
	}
	b.add(f)
}

// add prints a figure, with what other programs used of the machine since the last one, and keeps it
// for the summary.
func (b *bench) add(f figure) {
	now := b.usage()
	f.others = now.others(b.since, runtime.NumCPU())
	b.since = now
	b.figures = append(b.figures, f)
	printFigure(b.out, f)
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
