package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// describeMachine says where figures are measured, and by which programs.
func describeMachine(ctx context.Context) string {
	kernel, _, _ := strings.Cut(strings.TrimSpace(readProc("sys/kernel/osrelease")), "-") // without its builder's additions
	return fmt.Sprintf("%s, %d cores, Linux %s, %s; %s; %s; %s. Load average at the start: %s.", processor(), runtime.NumCPU(), kernel,
		runtime.Version(), versionOf(ctx, "nginx", "-v"), versionOf(ctx, "wrk", "-v"), versionOf(ctx, "openssl", "version"), loadAverage())
}

func processor() string {
	for line := range strings.Lines(readProc("cpuinfo")) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown processor"
}

// loadAverage returns the load of the last minute.
func loadAverage() string {
	one, _, _ := strings.Cut(readProc("loadavg"), " ")
	return one
}

// readProc reads a file of proc(5), "unknown" if that fails.
func readProc(name string) string {
	b, err := os.ReadFile("/proc/" + name)
	if err != nil {
		return "unknown"
	}
	return string(b)
}

// versionOf returns the first line that a program prints of itself. What it exits with does not
// matter: wrk -v fails.
func versionOf(ctx context.Context, program string, args ...string) string {
	out, _ := exec.CommandContext(ctx, lookup(program), args...).CombinedOutput()
	first, _, _ := strings.Cut(string(out), "\n")
	first, _, _ = strings.Cut(first, " Copyright")
	if first == "" {
		return program + " is missing"
	}
	return strings.TrimPrefix(first, "nginx version: ")
}

// A usage is processor time up to a moment: of the whole machine, and of this program with all that
// it started. Time in interrupts belongs to nobody and is in neither.
type usage struct {
	at        time.Time
	all, ours time.Duration
}

// usage returns the processor time used so far. That of processes which still run is not yet counted as
// that of ended children.
func (b *bench) usage() usage {
	u := usage{at: time.Now()}
	first, _, _ := strings.Cut(readProc("stat"), "\n")
	u.all = b.sumTicks(strings.Fields(first), 1, 2, 3) // user, nice and system
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var r syscall.Rusage
		b.check(syscall.Getrusage(who, &r))
		u.ours += time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	for p := range b.live {
		pids, err := p.pids()
		b.check(err)
		for _, pid := range pids {
			stat := readProc(pid + "/stat")
			// The name in parentheses may hold spaces.
			u.ours += b.sumTicks(strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:]), 11, 12)
		}
	}
	return u
}

// others returns which part of the machine, 0 to 1, other programs used between two moments.
func (u usage) others(since usage, cores int) float64 {
	others := (u.all - since.all) - (u.ours - since.ours)
	return min(1, max(0, float64(others)/float64(u.at.Sub(since.at))/float64(cores)))
}

// sumTicks adds up fields of a file in /proc whose unit is USER_HZ.
func (b *bench) sumTicks(fields []string, indices ...int) (sum time.Duration) {
	for _, i := range indices {
		if i >= len(fields) {
			b.fatalf("processor time: only %d fields", len(fields))
		}
		n, err := strconv.ParseInt(fields[i], 10, 64)
		b.check(err)
		sum += time.Duration(n) * 10 * time.Millisecond
	}
	return sum
}
