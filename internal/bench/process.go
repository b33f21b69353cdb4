package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A process is a child that listens on 127.0.0.1.
type process struct {
	cmd  *exec.Cmd
	addr string // host:port
	log  string // file with what it printed
	done chan error
	kin  *children
}

// start starts a program whose output goes to the file log. The caller calls stop. An end of ctx
// stops it too.
func (c *children) start(ctx context.Context, addr, log, program string, args ...string) (*process, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close() // the child has its own
	cmd := exec.CommandContext(ctx, lookup(program), args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	p := &process{cmd: cmd, addr: addr, log: log, done: make(chan error, 1), kin: c}
	c.add(p)
	go func() { p.done <- cmd.Wait() }()
	return p, nil
}

// stop ends the process, by force if it does not end by itself soon, and waits for it.
func (p *process) stop() {
	p.kin.remove(p)
	// It may have ended already, which no signal changes.
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(3 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// wait waits until ready returns true, asking every step. It fails if the process ends before.
func (p *process) wait(ctx context.Context, step time.Duration, ready func() bool) error {
	deadline := time.After(2 * time.Minute)
	tick := time.NewTicker(step)
	defer tick.Stop()
	for !ready() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		case err := <-p.done:
			p.done <- err
			return fmt.Errorf("%s ended early: %v: %s", p.cmd.Path, err, p.tail())
		case <-deadline:
			return fmt.Errorf("%s is not ready after two minutes: %s", p.cmd.Path, p.tail())
		}
	}
	return nil
}

// tail returns the end of what the process printed.
func (p *process) tail() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-1000):])
}

func (p *process) url(path string) string { return "http://" + p.addr + path }

// A memory is resident memory in bytes: now and at most so far.
type memory struct{ now, peak float64 }

// memory returns what the process and its children have.
func (p *process) memory() (memory, error) {
	pids, err := p.pids()
	if err != nil {
		return memory{}, err
	}
	var total memory
	for _, pid := range pids {
		m, err := memoryOf(pid)
		if err != nil {
			return memory{}, err
		}
		total.now += m.now
		total.peak += m.peak
	}
	return total, nil
}

// pids returns the process and its children.
func (p *process) pids() ([]string, error) {
	pid := strconv.Itoa(p.cmd.Process.Pid)
	b, err := os.ReadFile(filepath.Join("/proc", pid, "task", pid, "children"))
	if err != nil {
		return nil, err
	}
	return append([]string{pid}, strings.Fields(string(b))...), nil
}

func memoryOf(pid string) (memory, error) {
	b, err := os.ReadFile(filepath.Join("/proc", pid, "status"))
	if err != nil {
		return memory{}, err
	}
	var m memory
	for text := range strings.Lines(string(b)) {
		f := strings.Fields(text)
		if len(f) != 3 || f[2] != "kB" {
			continue
		}
		kb, err := strconv.ParseFloat(f[1], 64)
		if err != nil {
			return memory{}, err
		}
		switch f[0] {
		case "VmRSS:":
			m.now = kb * 1024
		case "VmHWM:":
			m.peak = kb * 1024
		}
	}
	if m.now == 0 {
		return memory{}, errors.New("no VmRSS in /proc/" + pid + "/status")
	}
	return m, nil
}

// freeAddress returns an address on which nothing listens.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// lookup returns the path of a program; Debian has nginx where users don't look.
func lookup(program string) string {
	if strings.ContainsRune(program, '/') {
		return program
	}
	if path, err := exec.LookPath(program); err == nil {
		return path
	}
	return filepath.Join("/usr/sbin", program)
}
