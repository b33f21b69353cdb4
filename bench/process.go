package main

import (
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

// A process is a child, most often a server on 127.0.0.1.
type process struct {
	cmd   *exec.Cmd
	addr  string // host:port
	log   string // file with what it printed
	ended chan struct{}
	err   error // valid once ended is closed
}

// start starts a program, which the end of the scope stops.
func (b *bench) start(addr, program string, args ...string) *process {
	out, err := os.CreateTemp(b.dir, "log-*")
	b.check(err)
	defer out.Close() // the child has its own
	cmd := exec.CommandContext(b.ctx, lookup(program), args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	b.check(cmd.Start())
	p := &process{cmd: cmd, addr: addr, log: out.Name(), ended: make(chan struct{})}
	b.live[p] = true
	go func() {
		p.err = cmd.Wait()
		close(p.ended)
	}()
	b.cleanup(func() {
		delete(b.live, p)
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended already, which no signal changes
		select {
		case <-p.ended:
		case <-time.After(3 * time.Second):
			_ = cmd.Process.Kill()
			<-p.ended
		}
	})
	return p
}

// wait waits until ready returns true, asking every step. It fails if the process ends before.
func (b *bench) wait(p *process, step time.Duration, ready func() bool) {
	deadline := time.After(2 * time.Minute)
	tick := time.NewTicker(step)
	defer tick.Stop()
	for !ready() {
		select {
		case <-tick.C:
		case <-b.ctx.Done():
			b.check(b.ctx.Err())
		case <-p.ended:
			b.fatalf("%s ended early: %v: %s", p.cmd.Path, p.err, p.tail())
		case <-deadline:
			b.fatalf("%s is not ready after two minutes: %s", p.cmd.Path, p.tail())
		}
	}
}

// tail returns the end of what the process printed.
func (p *process) tail() string {
	out, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(out[max(0, len(out)-1000):])
}

func (p *process) url(path string) string { return "http://" + p.addr + path }

// A memory is resident memory in MB: now and at most so far.
type memory struct{ now, peak float64 }

// memory returns what the process and its children have.
func (p *process) memory() (total memory, err error) {
	pids, err := p.pids()
	if err != nil {
		return memory{}, err
	}
	for _, pid := range pids {
		status, err := os.ReadFile("/proc/" + pid + "/status")
		if err != nil {
			return memory{}, err
		}
		for line := range strings.Lines(string(status)) {
			f := strings.Fields(line)
			if len(f) != 3 || f[0] != "VmRSS:" && f[0] != "VmHWM:" {
				continue
			}
			kb, err := strconv.ParseFloat(f[1], 64)
			if err != nil {
				return memory{}, err
			}
			if f[0] == "VmRSS:" {
				total.now += kb / 1024
			} else {
				total.peak += kb / 1024
			}
		}
	}
	if total.now == 0 {
		return memory{}, errors.New("no VmRSS of process " + pids[0])
	}
	return total, nil
}

// pids returns the process and its children.
func (p *process) pids() ([]string, error) {
	pid := strconv.Itoa(p.cmd.Process.Pid)
	children, err := os.ReadFile(filepath.Join("/proc", pid, "task", pid, "children"))
	return append([]string{pid}, strings.Fields(string(children))...), err
}

// seconds runs a program to its end and returns how long it took.
func (b *bench) seconds(program string, args ...string) float64 {
	begin := time.Now()
	if out, err := exec.CommandContext(b.ctx, lookup(program), args...).CombinedOutput(); err != nil {
		b.fatalf("%s %s: %w: %s", filepath.Base(program), args[0], err, out)
	}
	return time.Since(begin).Seconds()
}

// timing returns a side that measures how long a program runs.
func (b *bench) timing(program string, args ...string) side {
	return func() float64 { return b.seconds(program, args...) }
}

// peak runs a program to its end and returns the most memory, in MB, that it had. The process is asked:
// what wait4(2) says counts the memory of this one, by which it was started, too.
func (b *bench) peak(program string, args ...string) (most float64) {
	b.scope(func() {
		p := b.start("", program, args...)
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-p.ended:
				if p.err != nil {
					b.fatalf("%s: %w: %s", program, p.err, p.tail())
				}
				return
			case <-tick.C:
				// It fails for a process that has just ended.
				if m, err := p.memory(); err == nil {
					most = max(most, m.peak)
				}
			}
		}
	})
	return most
}

// freeAddress returns an address on which nothing listens.
func (b *bench) freeAddress() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	b.check(err)
	b.check(l.Close())
	return l.Addr().String()
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

func peakNote(ours, theirs sample) string {
	return fmt.Sprintf("VmHWM %s/%s MB", number(ours.median()), number(theirs.median()))
}
