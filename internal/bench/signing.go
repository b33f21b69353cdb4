package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"
)

// gigabyte is the size of a big archive; a look is content with a quarter.
func (l *lab) gigabyte() int64 {
	if l.load <= time.Second {
		return 256 * mB
	}
	return 1024 * mB
}

// measureSigning measures boxsign without a server.
func measureSigning(ctx context.Context, l *lab) error {
	s, err := l.signer(ctx, "signing")
	if err != nil {
		return err
	}
	if err := l.verifyBig(ctx, s); err != nil {
		return err
	}
	return l.fullRepository(ctx, s)
}

// verifyBig compares how long boxsign takes to verify a big archive with openssl, which only hashes it.
func (l *lab) verifyBig(ctx context.Context, s signer) error {
	size := l.gigabyte()
	data, err := l.archives("verify", 1, size)
	if err != nil {
		return err
	}
	defer data.remove()
	file := data.files()[0]
	if _, err := timed(ctx, s.program, "sign", "--keys", s.keys, "--force", file); err != nil {
		return err
	}
	verify := []string{"verify", "--key", filepath.Join(s.keys, "release.pub"), file}
	f := figure{
		family:  "signing",
		what:    fmt.Sprintf("verify an archive of %d MB", size/mB),
		unit:    "s",
		command: "boxsign verify --key release.pub ARCHIVE",
		against: "openssl dgst -sha256",
		goal:    goal{ratioAtMost, 1.1},
	}
	if err := l.run(ctx, &f, seconds(s.program, verify...), seconds("openssl", "dgst", "-sha256", file)); err != nil {
		return err
	}
	l.add(f)
	return l.alone(ctx, figure{
		family:  "signing",
		what:    fmt.Sprintf("memory, verify an archive of %d MB", size/mB),
		unit:    "MB",
		command: f.command,
		goal:    goal{valueAtMost, 32},
	}, func(ctx context.Context) (float64, error) { return l.peak(ctx, s.program, verify...) })
}

// seconds returns a side that measures how long a program runs.
func seconds(program string, args ...string) side {
	return func(ctx context.Context) (float64, error) {
		took, err := timed(ctx, program, args...)
		return took.Seconds(), err
	}
}

// peak runs a program to its end and returns the most memory, in MB, that it had. The process is asked:
// what wait4(2) says counts the memory of this one, by which it was started, too.
func (l *lab) peak(ctx context.Context, program string, args ...string) (float64, error) {
	p, err := l.children.start(ctx, "", filepath.Join(l.dir, "peak.log"), program, args...)
	if err != nil {
		return 0, err
	}
	defer l.children.remove(p)
	most := 0.0
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-p.done:
			if err != nil {
				return 0, fmt.Errorf("%s: %w: %s", program, err, p.tail())
			}
			return most / mB, nil
		case <-tick.C:
			// It fails for a process that has just ended.
			if m, err := p.memory(); err == nil {
				most = max(most, m.peak)
			}
		}
	}
}

// fullRepository measures what is done to a repository that is as full as one gets.
func (l *lab) fullRepository(ctx context.Context, s signer) error {
	data, err := l.archives("listed", listed, kB)
	if err != nil {
		return err
	}
	defer data.remove()
	files := data.files()
	before := files[:len(files)-l.pairs]
	if _, err := s.add(ctx, before...); err != nil {
		return err
	}
	left := files[len(before):]
	err = l.alone(ctx, figure{
		family:  "signing",
		what:    "add one update to 2,000",
		unit:    "s",
		command: "boxsign add --keys K --repo R ARCHIVE",
		goal:    goal{valueAtMost, 0.5},
	}, func(ctx context.Context) (float64, error) {
		took, err := s.add(ctx, left[0])
		left = left[1:]
		return took.Seconds(), err
	})
	if err != nil {
		return err
	}
	return l.alone(ctx, figure{
		family:  "signing",
		what:    "verify the metadata of 2,000 updates",
		unit:    "s",
		command: "boxsign verify-repo --metadata-only --root 1.root.json R",
		goal:    goal{valueAtMost, 1},
	}, seconds(s.program, "verify-repo", "--metadata-only", "--root", s.root(), s.repo))
}
