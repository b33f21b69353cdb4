// Command bench measures the project's programs beside others that do the same work, on the same
// data, alternately, in one run: ours, theirs, ours, theirs, and so on.
//
//	go -C bench run . [-short] [-markdown] [-pairs N] [-server FILE] [family ...]
//
// Without names it measures every family; -list shows them. It builds the programs under test,
// listens on 127.0.0.1 only, and leaves nothing behind. Each figure is a median over the runs with
// the lowest and highest value; a ratio is the median of the ratios of the pairs, so that a burst of
// other work on the machine, which hits both runs of a pair, falls out.
//
// The other programs (nginx, wrk, openssl, rsync, rclone, curl, taskset) come from Debian. A missed
// target is reported and is not a failure; the exit status is 1 when something could not be measured.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("usage")

// A family is some figures that are measured on the same data.
type family struct {
	name, about string
	measure     func(*bench)
}

func families() []family {
	return []family{
		{"small", "answers from memory: /version, /ls, /updates.json", measureSmall},
		{"logged", "the same with a log line for each request", measureLogged},
		{"page", "the status page of 1,000 updates: its size, and how long it takes", measurePage},
		{"metrics", "requests per second with metrics, log and limits, beside a server without", measureMetrics},
		{"ranges", "64 kB ranges of a 200 MB archive", measureRanges},
		{"archives", "whole archives of 1 MB", measureArchives},
		{"large", "archives of 200 MB, 8 and 200 downloads at once, and the memory they take", measureLarge},
		{"idle", "memory of 10,000 idle connections", measureIdle},
		{"unread", "memory of 10,000 connections with an unread body of 1 MB", measureUnread},
		{"hash", "the first hash of 2 GB of archives, on one core", measureHash},
		{"start", "start to first answer with 10,000 archives and known digests", measureStart},
		{"signing", "boxsign verify of 1 GB, and a repository of 2,000 updates", measureSigning},
		{"publishing", "boxsign publish of 1 GB, and a server with a repository of 2,000 updates", measurePublishing},
		{"mirror", "first copy by a mirror, rsync, rclone and curl, and syncs with little or nothing new", measureMirror},
		{"box", "verify and unpack beside openssl and tar, and what boxup takes", measureBox},
	}
}

func run(ctx context.Context, args []string, out, progress io.Writer) error {
	b := &bench{ctx: ctx, out: out, progress: progress}
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(progress)
	fs.BoolVar(&b.short, "short", false, "fewer and shorter runs: a look, not a figure")
	fs.IntVar(&b.pairs, "pairs", 0, "`runs` of each side (default 5, with -short 2)")
	fs.StringVar(&b.server, "server", "", "measure this box-update-server instead of building one")
	markdown := fs.Bool("markdown", false, "print the rows of docs/BENCHMARKS.md at the end")
	list := fs.Bool("list", false, "list the families")
	dir := fs.String("dir", os.TempDir(), "`directory` for the data, on a disk with 15 GB free")
	if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		return err
	} else if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	chosen, err := choose(fs.Args())
	if err != nil {
		return err
	}
	if *list {
		for _, f := range chosen {
			fmt.Fprintf(out, "%-10s %s\n", f.name, f.about)
		}
		return nil
	}
	b.load = 2 * time.Second
	if b.short {
		b.load = time.Second
	}
	if b.pairs == 0 {
		b.pairs = 5
		if b.short {
			b.pairs = 2
		}
	}
	if b.dir, err = os.MkdirTemp(*dir, "bench-*"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	return b.run(chosen, *markdown)
}

// choose returns the named families in their usual order, all for no name.
func choose(names []string) ([]family, error) {
	all := families()
	if len(names) == 0 {
		return all, nil
	}
	var known []string
	for _, f := range all {
		known = append(known, f.name)
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("%w: no family %q, expected of %s", errUsage, name, strings.Join(known, ", "))
		}
	}
	return slices.DeleteFunc(all, func(f family) bool { return !slices.Contains(names, f.name) }), nil
}
