package main

import (
	"context"
	"fmt"
	"time"
)

// measureStart measures how long a server with 10,000 archives, whose digests it knows from last time,
// takes to answer. The answer is the checksum line of the newest archive: it needs the listing and the
// digest.
func measureStart(ctx context.Context, l *lab) error {
	data, err := l.archives("start", 10000, kB)
	if err != nil {
		return err
	}
	defer data.remove()
	own, err := l.folder("start-data")
	if err != nil {
		return err
	}
	p, err := l.serve(ctx, data.dir, data.names, quiet, "--data-dir", own)
	if err != nil {
		return fmt.Errorf("first start: %w", err)
	}
	p.stop()
	f := figure{
		family:  "start",
		what:    "start to first answer, 10,000 archives",
		unit:    "s",
		command: "go run ./internal/bench start",
		goal:    goal{valueAtMost, 0.3},
	}
	return l.alone(ctx, f, func(ctx context.Context) (float64, error) {
		begin := time.Now()
		p, err := l.launch(ctx, nil, data.dir, quiet, "--data-dir", own)
		if err != nil {
			return 0, err
		}
		defer p.stop()
		err = p.wait(ctx, time.Millisecond, func() bool { return answers(p.url(data.path() + ".sha256")) })
		return time.Since(begin).Seconds(), err
	})
}
