package main

import (
	"context"
	"fmt"
	"time"
)

// measureLarge compares downloads of 200 MB archives, and the memory that the servers need for them.
func measureLarge(ctx context.Context, l *lab) error {
	data, err := l.archives("large", 1, 200*mB)
	if err != nil {
		return err
	}
	defer data.remove()
	d, err := l.duel(ctx, data.dir, data.names)
	if err != nil {
		return err
	}
	defer d.stop()
	if _, err := d.same(ctx, data.path(), "bytes=0-99"); err != nil {
		return err
	}
	for _, n := range []int{8, 200} {
		f := figure{
			family:  "large",
			what:    fmt.Sprintf("200 MB archives, %d downloads", n),
			unit:    "MB/s",
			command: "go run ./internal/bench large",
			against: "nginx",
			goal:    goal{ratioAtLeast, 0.95},
		}
		if err := l.run(ctx, &f, l.downloads(d.ours, data, n), l.downloads(d.nginx, data, n)); err != nil {
			return err
		}
		l.add(f)
	}
	return l.downloadMemory(ctx, d, data)
}

// downloads returns a side that measures MB/s of n downloads at once.
func (l *lab) downloads(p *process, data drop, n int) side {
	return func(ctx context.Context) (float64, error) {
		rate, err := discardRate(ctx, p.addr, data.path(), n, l.load)
		return rate / mB, err
	}
}

// downloadMemory measures memory while 200 downloads run.
func (l *lab) downloadMemory(ctx context.Context, d *duel, data drop) error {
	f := figure{
		family:  "large",
		what:    "memory, 200 downloads of 200 MB",
		unit:    "MB",
		command: "go run ./internal/bench large",
		against: "nginx",
		goal:    goal{valueAtMost, 40},
	}
	var peaks [2]sample
	err := l.run(ctx, &f, l.during(d.ours, data, &peaks[0]), l.during(d.nginx, data, &peaks[1]))
	if err != nil {
		return err
	}
	f.note = peakNote(peaks)
	l.add(f)
	return nil
}

// during returns a side that measures memory in the middle of 200 downloads and adds the peak of the
// process's life to peak.
func (l *lab) during(p *process, data drop, peak *sample) side {
	return func(ctx context.Context) (float64, error) {
		ended := make(chan error, 1)
		go func() {
			_, err := discardRate(ctx, p.addr, data.path(), 200, l.load)
			ended <- err
		}()
		time.Sleep(l.load / 2)
		m, err := p.memory()
		if downloads := <-ended; err == nil {
			err = downloads
		}
		*peak = append(*peak, m.peak/mB)
		return m.now / mB, err
	}
}

func peakNote(peaks [2]sample) string {
	return fmt.Sprintf("VmHWM %s/%s MB", number(peaks[0].median()), number(peaks[1].median()))
}
