package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// tick is the unit of processor time in /proc (USER_HZ).
const tick = 10 * time.Millisecond

// A usage is processor time up to a moment: of the whole machine, and of this program with all that
// it started. Time in interrupts belongs to nobody and is in neither.
type usage struct {
	at        time.Time
	all, ours time.Duration
}

// A children is the processes that run now: their time is not yet counted as that of ended children.
type children struct {
	mu   sync.Mutex
	live map[*process]bool
}

func (c *children) add(p *process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.live == nil {
		c.live = make(map[*process]bool)
	}
	c.live[p] = true
}

func (c *children) remove(p *process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.live, p)
}

// usage returns the processor time used so far.
func (c *children) usage() (usage, error) {
	u := usage{at: time.Now()}
	var err error
	if u.all, err = machineTime(); err != nil {
		return usage{}, err
	}
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var r syscall.Rusage
		if err := syscall.Getrusage(who, &r); err != nil {
			return usage{}, fmt.Errorf("processor time: %w", err)
		}
		u.ours += time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for p := range c.live {
		pids, err := p.pids()
		if err != nil {
			return usage{}, err
		}
		for _, pid := range pids {
			t, err := processTime(pid)
			if err != nil {
				return usage{}, err
			}
			u.ours += t
		}
	}
	return u, nil
}

// others returns which part of the machine, 0 to 1, other programs used between two moments.
func (u usage) others(since usage, cores int) float64 {
	others := (u.all - since.all) - (u.ours - since.ours)
	return max(0, float64(others)/float64(u.at.Sub(since.at))/float64(cores))
}

// machineTime returns the time that all processors spent in programs and for them: user, nice and
// system of proc(5)'s /proc/stat.
func machineTime() (time.Duration, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(b), "\n")
	return sumTicks(strings.Fields(first), 1, 2, 3)
}

// processTime returns user and system time of a process with all its threads.
func processTime(pid string) (time.Duration, error) {
	b, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return 0, err
	}
	// The name in parentheses may hold spaces.
	rest := string(b[strings.LastIndexByte(string(b), ')')+1:])
	return sumTicks(strings.Fields(rest), 11, 12)
}

func sumTicks(fields []string, indices ...int) (time.Duration, error) {
	var sum time.Duration
	for _, i := range indices {
		if i >= len(fields) {
			return 0, fmt.Errorf("processor time: only %d fields", len(fields))
		}
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("processor time: %w", err)
		}
		sum += time.Duration(n) * tick
	}
	return sum, nil
}
