package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// measureMirror compares a mirror that verifies what it copies with programs that copy alone.
func measureMirror(b *bench) {
	many, big := listed-1, int64(100*mB)
	if b.short {
		many, big = many/4, big/4
	}
	b.scope(func() { b.measureCopies(20, big) })
	b.scope(func() { b.measureCopies(many, 200*kB) })
}

// rivals are the copiers with which a mirror is compared. cp, which reads the same disk, is the limit.
func rivals() []string { return []string{"rsync", "rclone", "curl"} }

// measureCopies measures the first copy of n archives: all programs in turn, and ours compared with the
// fastest of them. Then it measures a sync with nothing new, and one with one update more.
func (b *bench) measureCopies(n int, size int64) {
	s := b.signer()
	data := b.archives(n, size)
	s.add(data.files()...)
	server := b.serve(nil, s.serving()...)
	copiers := b.copiers(data)

	// ext4 without a journal makes a new file the slower the more were removed in the last five minutes, since
	// it looks at the inode of each. So copies of many files are removed only when all are made.
	next, copies := 0, b.newDir("copies")
	newCopy := func() string {
		if n <= 100 {
			b.check(os.RemoveAll(copies))
			b.check(os.Mkdir(copies, 0o755))
		}
		next++
		return filepath.Join(copies, fmt.Sprint(next))
	}
	sync := func(dir string) []string {
		return []string{"mirror", server.url(""), "--root", s.root, "--data-dir", dir, "--once"}
	}

	var ours, peaks sample
	times, synced := map[string]sample{}, map[string]sample{}
	for range b.pairs {
		// Watching a process's memory takes time from it.
		peaks = append(peaks, b.peak(b.server, sync(newCopy())...))
		ours = append(ours, b.seconds(b.server, sync(newCopy())...))
		for program, args := range copiers {
			dir := newCopy()
			took := b.seconds(program, args(dir)...)
			times[program] = append(times[program], took)
			// A mirror has everything on the disk when it ends.
			synced[program] = append(synced[program], took+b.seconds("sync", "-f", dir))
			if entries, err := os.ReadDir(dir); err != nil || len(entries) != n {
				b.fatalf("%s copied %d of %d archives: %w", program, len(entries), n, err)
			}
		}
	}
	compared := func(times map[string]sample) (fastest, note string) {
		var all []string
		for _, program := range append(rivals(), "cp") {
			all = append(all, fmt.Sprintf("%s %s", program, times[program]))
		}
		return slices.MinFunc(rivals(), func(x, y string) int { return cmp.Compare(times[x].median(), times[y].median()) }),
			strings.Join(all, ", ")
	}
	const command = "box-update-server mirror URL --root 1.root.json --data-dir M --once"
	what := fmt.Sprintf("first copy of %d archives of %d kB", n, size/kB)
	fastest, note := compared(times)
	b.add(figure{what: what, unit: "s", command: command, ours: ours, theirs: times[fastest], against: fastest,
		goal: goal{ratioAtMost, 1}, note: note})
	fastest, note = compared(synced)
	b.add(figure{what: what + ", on the disk", unit: "s", command: command, ours: ours, theirs: synced[fastest],
		against: fastest + ", sync", note: note})
	b.add(figure{what: "memory, " + what, unit: "MB", command: command, ours: peaks, goal: goal{valueAtMost, 64}})

	dir := newCopy()
	b.seconds(b.server, sync(dir)...)
	b.alone(figure{what: fmt.Sprintf("sync with nothing new, %d updates", n), unit: "s", command: command,
		goal: goal{valueAtMost, 0.05}}, b.timing(b.server, sync(dir)...))
	s.publish(b.extend(data, 1, kB), server)
	b.add(figure{what: fmt.Sprintf("sync with one new update of 1 kB, %d updates", n+1), unit: "s", command: command,
		ours: sample{b.seconds(b.server, sync(dir)...)}})
}

// copiers starts the servers of the programs that copy, and returns these, each with its arguments to copy
// all archives into a new directory.
func (b *bench) copiers(data *drop) map[string]func(dir string) []string {
	nginx := b.nginx(nginxSite{Updates: data.dir}, nil)
	addr := b.freeAddress()
	_, port, _ := strings.Cut(addr, ":")
	rsync := b.start(addr, "rsync", "--daemon", "--no-detach", "--config", b.write("rsyncd.conf", fmt.Sprintf(
		"port = %s\naddress = 127.0.0.1\nuse chroot = no\npid file =\n[updates]\npath = %s\nread only = yes\n", port, data.dir)))
	b.wait(rsync, 10*time.Millisecond, rsync.listens)
	var urls strings.Builder
	for _, name := range data.names {
		fmt.Fprintf(&urls, "url = %q\n", nginx.url("/update/"+name))
	}
	curl := b.write("curl.conf", urls.String())
	return map[string]func(dir string) []string{
		"cp":    func(dir string) []string { return []string{"-r", data.dir, dir} },
		"rsync": func(dir string) []string { return []string{"-a", "rsync://" + addr + "/updates/", dir + "/"} },
		"rclone": func(dir string) []string {
			return []string{"copy", "--config", "", "--http-url", nginx.url("/update/"), ":http:", dir}
		},
		"curl": func(dir string) []string {
			return []string{"-sS", "--fail", "--parallel", "--parallel-max", "8", "--remote-name-all", "--create-dirs",
				"--output-dir", dir, "--config", curl}
		},
	}
}
