package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A wrkLoad is a load that wrk puts on both servers.
type wrkLoad struct {
	path        string
	connections int
	time        time.Duration // whole seconds
	script      string        // Lua, "" for none
}

func (w wrkLoad) args(url string) []string {
	args := []string{"-t2", fmt.Sprintf("-c%d", w.connections), fmt.Sprintf("-d%.0fs", w.time.Seconds()), "--timeout", "10s", "--latency"}
	if w.script != "" {
		args = append(args, "-s", w.script)
	}
	return append(args, url)
}

// command returns the command line, the script by its base name.
func (w wrkLoad) command() string {
	if w.script != "" {
		w.script = filepath.Base(w.script)
	}
	return "wrk " + strings.Join(w.args("http://SERVER"+w.path), " ")
}

// side returns a side that puts the load on p and measures requests per second. The slowest
// hundredth of each run, in milliseconds, is added to p99.
func (w wrkLoad) side(p *process, p99 *sample) side {
	return func(ctx context.Context) (float64, error) {
		out, err := exec.CommandContext(ctx, "wrk", w.args(p.url(w.path))...).CombinedOutput()
		if err != nil {
			return 0, fmt.Errorf("wrk: %w: %s", err, out)
		}
		r, err := parseWrk(string(out))
		if err != nil {
			return 0, err
		}
		*p99 = append(*p99, float64(r.p99)/float64(time.Millisecond))
		return r.rate, nil
	}
}

// wrkPairs measures a load on both servers.
func (l *lab) wrkPairs(ctx context.Context, d *duel, f figure, w wrkLoad) error {
	f.unit, f.against = "req/s", "nginx"
	f.command = w.command()
	var ours, theirs sample
	// The latencies are known only afterwards, so the note is added to the finished figure.
	if err := l.run(ctx, &f, w.side(d.ours, &ours), w.side(d.nginx, &theirs)); err != nil {
		return err
	}
	f.note = strings.TrimSpace(fmt.Sprintf("%s p99 %s/%s ms", f.note, number(ours.median()), number(theirs.median())))
	l.add(f)
	return nil
}

// A wrkResult is what wrk found.
type wrkResult struct {
	rate float64 // requests per second
	p99  time.Duration
}

var errWrk = errors.New("wrk")

// parseWrk reads the output of wrk --latency. A run with errors or with answers other than 2xx and 3xx
// is refused.
func parseWrk(out string) (wrkResult, error) {
	for _, bad := range []string{"Socket errors:", "Non-2xx"} {
		if i := strings.Index(out, bad); i >= 0 {
			first, _, _ := strings.Cut(out[i:], "\n")
			return wrkResult{}, fmt.Errorf("%w: %s", errWrk, first)
		}
	}
	m := regexp.MustCompile(`(?s)\n +99%  +(\S+) *\n.*\nRequests/sec: +(\S+) *\n`).FindStringSubmatch(out)
	if m == nil {
		return wrkResult{}, fmt.Errorf("%w: no rate in %q", errWrk, out)
	}
	p99, err := time.ParseDuration(m[1])
	if err != nil {
		return wrkResult{}, fmt.Errorf("%w: latency: %w", errWrk, err)
	}
	rate, err := strconv.ParseFloat(m[2], 64)
	if err != nil {
		return wrkResult{}, fmt.Errorf("%w: rate: %w", errWrk, err)
	}
	return wrkResult{rate, p99}, nil
}
