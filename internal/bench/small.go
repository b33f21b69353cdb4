package main

import (
	"context"
	"fmt"
)

// smallArchives is how many archives make /updates.json about 2 kB long.
const smallArchives = 10

func smallPaths() []string { return []string{"/version", "/ls", "/updates.json"} }

func connections() []int { return []int{64, 1000} }

// measureSmall compares the answers that our server has in memory with the same bytes as files in
// nginx.
func measureSmall(ctx context.Context, l *lab) error {
	data, err := l.archives("small", smallArchives, kB)
	if err != nil {
		return err
	}
	defer data.remove()
	d, err := l.duel(ctx, data.dir, data.names, smallPaths()...)
	if err != nil {
		return err
	}
	defer d.stop()
	for _, path := range smallPaths() {
		length, err := d.same(ctx, path, "")
		if err != nil {
			return err
		}
		for _, n := range connections() {
			f := figure{family: "small", what: fmt.Sprintf("%s, %d B, %d connections", path, length, n), goal: goal{ratioAtLeast, 0.8}}
			if err := l.wrkPairs(ctx, d, f, wrkLoad{path: path, connections: n, time: l.load}); err != nil {
				return err
			}
		}
	}
	return nil
}

// measureLogged compares both servers when each writes a line per request to a file.
func measureLogged(ctx context.Context, l *lab) error {
	data, err := l.archives("logged", smallArchives, kB)
	if err != nil {
		return err
	}
	defer data.remove()
	ours, err := l.serve(ctx, data.dir, data.names, "--log-requests=true")
	if err != nil {
		return err
	}
	defer ours.stop()
	const path = "/version"
	nginx, err := l.nginx(ctx, nginxSite{updates: data.dir, like: ours, same: []string{path}, accessLog: true})
	if err != nil {
		return err
	}
	defer nginx.stop()
	f := figure{family: "logged", what: path + ", logged, 64 connections"}
	return l.wrkPairs(ctx, &duel{ours, nginx}, f, wrkLoad{path: path, connections: 64, time: l.load})
}
