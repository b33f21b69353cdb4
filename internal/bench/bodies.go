package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// rangesLua asks for ranges of 64 kB at random offsets of a 200 MB file. The requests are made before
// the load begins, the same ones for every server.
const rangesLua = `
local requests = {}
local next = 0
function init(args)
	math.randomseed(1)
	for i = 1, 1000 do
		local from = math.random(0, 200*1024*1024 - 65536)
		requests[i] = wrk.format("GET", nil, {["Range"] = "bytes=" .. from .. "-" .. from + 65535})
	end
end
function request()
	next = next % #requests + 1
	return requests[next]
end
`

// measureRanges compares ranges of a large archive.
func measureRanges(ctx context.Context, l *lab) error {
	data, err := l.archives("ranges", 1, 200*mB)
	if err != nil {
		return err
	}
	defer data.remove()
	script := filepath.Join(l.dir, "ranges.lua")
	if err := os.WriteFile(script, []byte(rangesLua), 0o644); err != nil {
		return err
	}
	d, err := l.duel(ctx, data.dir, data.names)
	if err != nil {
		return err
	}
	defer d.stop()
	if _, err := d.same(ctx, data.path(), "bytes=1000000-1065535"); err != nil {
		return err
	}
	for _, n := range connections() {
		f := figure{family: "ranges", what: fmt.Sprintf("64 kB ranges, %d connections", n), goal: goal{ratioAtLeast, 0.6}}
		if err := l.wrkPairs(ctx, d, f, wrkLoad{path: data.path(), connections: n, time: l.load, script: script}); err != nil {
			return err
		}
	}
	return nil
}

// measureArchives compares whole archives of 1 MB.
func measureArchives(ctx context.Context, l *lab) error {
	data, err := l.archives("archives", 8, mB)
	if err != nil {
		return err
	}
	defer data.remove()
	d, err := l.duel(ctx, data.dir, data.names)
	if err != nil {
		return err
	}
	defer d.stop()
	if _, err := d.same(ctx, data.path(), ""); err != nil {
		return err
	}
	for _, n := range connections() {
		f := figure{family: "archives", what: fmt.Sprintf("1 MB archives, %d connections", n), goal: goal{ratioAtLeast, 0.85}}
		if err := l.wrkPairs(ctx, d, f, wrkLoad{path: data.path(), connections: n, time: l.load}); err != nil {
			return err
		}
	}
	return nil
}
