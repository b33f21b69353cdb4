package main

import (
	"context"
	"path/filepath"
	"time"
)

// serve starts our server on a directory of archives and waits until it is ready and knows the digest
// of every archive in names. The caller calls stop.
func (l *lab) serve(ctx context.Context, updates string, names []string, args ...string) (*process, error) {
	p, err := l.launch(ctx, nil, updates, args...)
	if err != nil {
		return nil, err
	}
	hashed := func() bool {
		for len(names) > 0 && answers(p.url("/update/"+names[0]+".sha256")) {
			names = names[1:]
		}
		return len(names) == 0
	}
	err = p.wait(ctx, 10*time.Millisecond, func() bool { return answers(p.url("/readyz")) })
	if err == nil {
		err = p.wait(ctx, 10*time.Millisecond, hashed)
	}
	if err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// launch starts our server, which is not ready yet, by the program and arguments in prefix, if any.
// It has a directory of updates unless that is "".
func (l *lab) launch(ctx context.Context, prefix []string, updates string, args ...string) (*process, error) {
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	command := append(prefix, l.server, "serve", "--listen", addr)
	if updates != "" {
		command = append(command, "--updates-dir", updates)
	}
	command = append(command, args...)
	return l.children.start(ctx, addr, filepath.Join(l.dir, "server.log"), command[0], command[1:]...)
}

// quiet is how our server is told not to log requests.
const quiet = "--log-requests=false"

// A duel is our server and nginx on the same archives.
type duel struct{ ours, nginx *process }

// duel starts both. Our server logs no request, and keeps all connections of the one client. same are the paths, besides the archives, that nginx
// serves with the bytes and the Content-Type of our server. The caller calls stop.
func (l *lab) duel(ctx context.Context, updates string, names []string, same ...string) (*duel, error) {
	ours, err := l.serve(ctx, updates, names, quiet, "--max-idle=0")
	if err != nil {
		return nil, err
	}
	theirs, err := l.nginx(ctx, nginxSite{updates: updates, like: ours, same: same})
	if err != nil {
		ours.stop()
		return nil, err
	}
	return &duel{ours, theirs}, nil
}

func (d *duel) stop() {
	d.ours.stop()
	d.nginx.stop()
}
