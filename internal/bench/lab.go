package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

const module = "github.com/openpowerquality/box-update-server"

// A lab is what the families work with.
type lab struct {
	dir      string        // for data, removed by close
	server   string        // the box-update-server under test
	pairs    int           // runs of each side
	load     time.Duration // how long one run loads a server, whole seconds
	out      io.Writer
	progress io.Writer
	markdown bool
	figures  []figure
	children children
	since    usage // when the last figure was done
}

// newLab makes the data directory and builds what is to be measured. The caller calls close.
func newLab(ctx context.Context, o options, out, progress io.Writer) (*lab, error) {
	if err := raiseFileLimit(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(o.dir, "bench-*")
	if err != nil {
		return nil, err
	}
	l := &lab{
		dir:      dir,
		server:   o.server,
		pairs:    o.pairs,
		load:     2 * time.Second,
		out:      out,
		progress: progress,
		markdown: o.markdown,
	}
	if o.short {
		l.load = time.Second
	}
	if l.server == "" {
		l.server, err = l.build(ctx, "box-update-server")
	}
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *lab) close() {
	if err := os.RemoveAll(l.dir); err != nil {
		l.say("bench: %v", err)
	}
}

// say writes a line of progress.
func (l *lab) say(format string, args ...any) {
	fmt.Fprintf(l.progress, format+"\n", args...)
}

// build builds a command of this module as the Makefile does and returns the path of the program.
func (l *lab) build(ctx context.Context, command string) (string, error) {
	path := filepath.Join(l.dir, "bin", command)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w", "-o", path, module+"/cmd/"+command)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOTOOLCHAIN=local")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w: %s", command, err, out)
	}
	return path, nil
}

// measure measures the families one after the other. One that fails does not keep the others.
func (l *lab) measure(ctx context.Context, families []family) error {
	m := readMachine(ctx)
	fmt.Fprint(l.out, m.text())
	printHeading(l.out)
	begin := time.Now()
	var err error
	if l.since, err = l.children.usage(); err != nil {
		return err
	}
	var failed []error
	for _, f := range families {
		if err := f.measure(ctx, l); err != nil {
			l.say("bench: %s: %v", f.name, err)
			failed = append(failed, fmt.Errorf("%s: %w", f.name, err))
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	printSummary(l.out, l.figures, time.Since(begin))
	if l.markdown {
		printMarkdown(l.out, m, l.figures)
	}
	return errors.Join(failed...)
}

// folder makes a directory for data and returns its path.
func (l *lab) folder(name string) (string, error) {
	path := filepath.Join(l.dir, name)
	return path, os.MkdirAll(path, 0o755)
}

// raiseFileLimit lets this process and its children have as many open files as they are allowed. The
// explicit call matters: without it the Go runtime starts children with the lower limit.
func raiseFileLimit() error {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return fmt.Errorf("limit of open files: %w", err)
	}
	const wanted = 16384
	r.Max = max(r.Max, wanted)
	r.Cur = r.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return fmt.Errorf("limit of open files: %w: raise it to %d (ulimit -n)", err, wanted)
	}
	return nil
}
