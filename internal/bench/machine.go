package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// A machine is where figures were measured and by which programs.
type machine struct {
	processor, kernel, goVersion string
	cores                        int
	programs                     []string // each with its version
	load                         string   // load average at the start
}

func readMachine(ctx context.Context) machine {
	return machine{
		processor: processor(),
		kernel:    kernel(),
		goVersion: runtime.Version(),
		cores:     runtime.NumCPU(),
		programs: []string{
			firstLine(ctx, "nginx", "-v"),
			firstLine(ctx, "wrk", "-v"),
			firstLine(ctx, "openssl", "version"),
		},
		load: loadAverage(),
	}
}

func (m machine) text() string {
	return fmt.Sprintf("%s, %d cores, Linux %s, %s\n%s\nload at the start %s\n",
		m.processor, m.cores, m.kernel, m.goVersion, strings.Join(m.programs, "; "), m.load)
}

func (m machine) markdown() string {
	return fmt.Sprintf("Machine: %s, %d cores, Linux %s, %s; %s. Load average at the start: %s.\n",
		m.processor, m.cores, m.kernel, m.goVersion, strings.Join(m.programs, "; "), m.load)
}

func processor() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown processor"
	}
	for text := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(text, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown processor"
}

// kernel returns the version of Linux, without what the builder of the machine's kernel added to it.
func kernel() string {
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "unknown"
	}
	version, _, _ := strings.Cut(strings.TrimSpace(string(b)), "-")
	return version
}

// loadAverage returns the load of the last minute.
func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	one, _, _ := strings.Cut(string(b), " ")
	return one
}

// firstLine returns the first line that a program prints of itself. What it exits with does not
// matter: wrk -v fails.
func firstLine(ctx context.Context, program string, args ...string) string {
	cmd := exec.CommandContext(ctx, lookup(program), args...)
	out, _ := cmd.CombinedOutput()
	first, _, _ := strings.Cut(string(out), "\n")
	first, _, _ = strings.Cut(first, " Copyright")
	if first == "" {
		return program + " is missing"
	}
	return strings.TrimPrefix(first, "nginx version: ")
}
