package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"
)

// pinned runs a program on one core.
func pinned() []string { return []string{"taskset", "-c", "0"} }

// measureHash compares how fast our server hashes archives that it sees for the first time with
// openssl, both on one core and from the page cache. Ours includes the start of the server.
func measureHash(ctx context.Context, l *lab) error {
	size := int64(512 * mB)
	if l.load <= time.Second {
		size /= 4
	}
	data, err := l.archives("hash", 4, size)
	if err != nil {
		return err
	}
	defer data.remove()
	f := figure{
		family:  "hash",
		what:    fmt.Sprintf("first hash of %d MB in 4 archives", 4*size/mB),
		unit:    "MB/s",
		command: "taskset -c 0 openssl dgst -sha256 ARCHIVE…",
		against: "openssl",
		goal:    goal{ratioAtLeast, 0.9},
	}
	rate := func(took time.Duration) float64 { return float64(4*size) / mB / took.Seconds() }
	ours := func(ctx context.Context) (float64, error) {
		took, err := l.firstHash(ctx, data)
		return rate(took), err
	}
	theirs := func(ctx context.Context) (float64, error) {
		took, err := opensslHash(ctx, data)
		return rate(took), err
	}
	if err := l.run(ctx, &f, ours, theirs); err != nil {
		return err
	}
	l.add(f)
	return nil
}

// firstHash returns how long a server that remembers nothing takes to know every digest.
func (l *lab) firstHash(ctx context.Context, data drop) (time.Duration, error) {
	begin := time.Now()
	p, err := l.launch(ctx, pinned(), data.dir, quiet)
	if err != nil {
		return 0, err
	}
	defer p.stop()
	names := data.names
	err = p.wait(ctx, 5*time.Millisecond, func() bool {
		for len(names) > 0 && answers(p.url("/update/"+names[0]+".sha256")) {
			names = names[1:]
		}
		return len(names) == 0
	})
	return time.Since(begin), err
}

func opensslHash(ctx context.Context, data drop) (time.Duration, error) {
	args := append(pinned(), "openssl", "dgst", "-sha256")
	for _, name := range data.names {
		args = append(args, filepath.Join(data.dir, name))
	}
	begin := time.Now()
	if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
		return 0, fmt.Errorf("openssl: %w: %s", err, out)
	}
	return time.Since(begin), nil
}
