package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// measurePublishing measures boxsign with a server, and a server with a repository.
func measurePublishing(ctx context.Context, l *lab) error {
	if err := l.publishBig(ctx); err != nil {
		return err
	}
	s, err := l.signer(ctx, "published")
	if err != nil {
		return err
	}
	data, err := l.archives("published-archives", listed-2-l.pairs, kB)
	if err != nil {
		return err
	}
	defer data.remove()
	for _, size := range []int64{mB, 200 * mB} {
		if err := data.extend(1, size); err != nil {
			return err
		}
	}
	if _, err := s.add(ctx, data.files()...); err != nil {
		return err
	}
	if err := l.serveRepository(ctx, s, data); err != nil {
		return err
	}
	if err := l.startRepository(ctx, s, data); err != nil {
		return err
	}
	return l.publishSmall(ctx, s, data)
}

// publishBig compares a publish of a big archive with sending it to nginx and hashing it once. nginx
// does not wait until it is on the disk.
func (l *lab) publishBig(ctx context.Context) error {
	s, err := l.signer(ctx, "publish-big")
	if err != nil {
		return err
	}
	defer os.RemoveAll(filepath.Dir(s.repo)) // what it leaves, the end of the run removes
	size := l.gigabyte()
	data, err := l.archives("big", 1, size)
	if err != nil {
		return err
	}
	defer data.remove()
	server, err := l.serve(ctx, "", nil, s.serving()...)
	if err != nil {
		return err
	}
	defer server.stop()
	nginx, err := l.nginx(ctx, nginxSite{uploads: true})
	if err != nil {
		return err
	}
	defer nginx.stop()
	f := figure{
		family:  "publishing",
		what:    fmt.Sprintf("publish an archive of %d MB", size/mB),
		unit:    "s",
		command: "boxsign publish --keys K ARCHIVE http://SERVER",
		against: "curl -T, openssl",
		goal:    goal{ratioAtMost, 1.3},
	}
	ours := func(ctx context.Context) (float64, error) {
		if err := data.renew(); err != nil {
			return 0, err
		}
		took, err := s.publish(ctx, data.files()[0], server)
		return took.Seconds(), err
	}
	theirs := func(ctx context.Context) (float64, error) {
		took, err := uploaded(ctx, data.files()[0], nginx)
		return took.Seconds(), err
	}
	if err := l.run(ctx, &f, ours, theirs); err != nil {
		return err
	}
	m, err := server.memory()
	if err != nil {
		return err
	}
	f.note = fmt.Sprintf("VmHWM of the server %s MB", number(m.peak/mB))
	l.add(f)
	return nil
}

// renew makes another archive of the only one: the next version, with another number in its first bytes.
func (d *drop) renew() (err error) {
	old := d.files()[0]
	var version int64
	if _, err := fmt.Sscanf(d.names[0], "opq-box-update-%d.", &version); err != nil {
		return err
	}
	d.names[0] = fmt.Sprintf("opq-box-update-%d.tar.bz2", version+1)
	if err := os.Rename(old, d.files()[0]); err != nil {
		return err
	}
	f, err := os.OpenFile(d.files()[0], os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(binary.BigEndian.AppendUint64(nil, uint64(version))); err != nil {
		return err
	}
	return f.Sync()
}

// uploaded returns how long it takes to send a file to nginx and to hash it. nginx keeps those before, as an
// origin does: memory that the machine has not used yet is dearer than what an old file gives back.
func uploaded(ctx context.Context, file string, nginx *process) (time.Duration, error) {
	sent, err := timed(ctx, "curl", "-sS", "--fail", "-T", file, nginx.url("/put/"+filepath.Base(file)))
	if err != nil {
		return 0, err
	}
	hashed, err := timed(ctx, "openssl", "dgst", "-sha256", file)
	return sent + hashed, err
}

// serveRepository compares a server with a repository of 2,000 updates with nginx on a plain directory
// of the same archives.
func (l *lab) serveRepository(ctx context.Context, s signer, data drop) error {
	const version = "/version"
	ours, err := l.serve(ctx, "", data.names, s.serving()...)
	if err != nil {
		return err
	}
	defer ours.stop()
	nginx, err := l.nginx(ctx, nginxSite{updates: data.dir, like: ours, same: []string{version}})
	if err != nil {
		return err
	}
	defer nginx.stop()
	script := filepath.Join(l.dir, "ranges.lua")
	if err := os.WriteFile(script, []byte(rangesLua), 0o644); err != nil {
		return err
	}
	d := &duel{ours, nginx}
	megabyte := "/update/" + data.names[len(data.names)-2]
	for _, c := range []struct {
		what, path, script string
		sample             string // the range of which both must answer the same
		ratio              float64
	}{
		{version, version, "", "", 0.8},
		{"64 kB ranges", data.path(), script, "bytes=1000000-1065535", 0.6},
		{"1 MB archives", megabyte, "", "", 0.85},
	} {
		if _, err := d.same(ctx, c.path, c.sample); err != nil {
			return err
		}
		f := figure{family: "publishing", what: "2,000 updates: " + c.what + ", 64 connections", goal: goal{ratioAtLeast, c.ratio}}
		if err := l.wrkPairs(ctx, d, f, wrkLoad{path: c.path, connections: 64, time: l.load, script: c.script}); err != nil {
			return err
		}
	}
	return nil
}

// startRepository measures how long a server with 2,000 updates takes to answer the checksum line of
// the newest one.
func (l *lab) startRepository(ctx context.Context, s signer, data drop) error {
	return l.alone(ctx, figure{
		family:  "publishing",
		what:    "2,000 updates: start to first answer",
		unit:    "s",
		command: "go run ./internal/bench publishing",
		goal:    goal{valueAtMost, 0.5},
	}, func(ctx context.Context) (float64, error) {
		begin := time.Now()
		p, err := l.launch(ctx, nil, "", s.serving()...)
		if err != nil {
			return 0, err
		}
		defer p.stop()
		err = p.wait(ctx, time.Millisecond, func() bool { return answers(p.url(data.path() + ".sha256")) })
		return time.Since(begin).Seconds(), err
	})
}

// publishSmall measures how long it takes to publish one more small update.
func (l *lab) publishSmall(ctx context.Context, s signer, data drop) error {
	server, err := l.serve(ctx, "", nil, s.serving()...)
	if err != nil {
		return err
	}
	defer server.stop()
	return l.alone(ctx, figure{
		family:  "publishing",
		what:    "2,000 updates: publish one of 1 kB",
		unit:    "s",
		command: "boxsign publish --keys K ARCHIVE http://SERVER",
		goal:    goal{valueAtMost, 1},
	}, func(ctx context.Context) (float64, error) {
		if err := data.extend(1, kB); err != nil {
			return 0, err
		}
		took, err := s.publish(ctx, filepath.Join(data.dir, data.newest()), server)
		return took.Seconds(), err
	})
}
