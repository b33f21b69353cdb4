package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// measureMirror compares a mirror that verifies what it copies with programs that copy alone.
func measureMirror(ctx context.Context, l *lab) error {
	many := int64(listed - 1)
	big, small := int64(100*mB), int64(200*kB)
	if l.load <= time.Second {
		many, big = many/4, big/4
	}
	for _, c := range []struct {
		name string
		n    int64
		size int64
	}{{"large", 20, big}, {"small", many, small}} {
		if err := l.mirrorFamily(ctx, c.name, int(c.n), c.size); err != nil {
			return err
		}
	}
	return nil
}

// copying is a set of archives with a server of each kind on it.
type copying struct {
	l      *lab
	signer signer
	data   drop
	ours   *process
	nginx  *process
	rsync  *process
	next   int      // of the directories to copy into
	copies []string // those directories that are there
}

func (l *lab) mirrorFamily(ctx context.Context, name string, n int, size int64) error {
	s, err := l.signer(ctx, "mirror-"+name)
	if err != nil {
		return err
	}
	data, err := l.archives("mirror-"+name+"-archives", n, size)
	if err != nil {
		return err
	}
	defer data.remove()
	if _, err := s.add(ctx, data.files()...); err != nil {
		return err
	}
	c := &copying{l: l, signer: s, data: data}
	defer c.stop()
	if err := c.start(ctx); err != nil {
		return err
	}
	if err := c.first(ctx, n, size); err != nil {
		return err
	}
	return c.again(ctx, n)
}

func (c *copying) start(ctx context.Context) (err error) {
	if c.ours, err = c.l.serve(ctx, "", nil, c.signer.serving()...); err != nil {
		return err
	}
	if c.nginx, err = c.l.nginx(ctx, nginxSite{updates: c.data.dir}); err != nil {
		return err
	}
	addr, err := freeAddress()
	if err != nil {
		return err
	}
	conf := filepath.Join(c.l.dir, "rsyncd.conf")
	_, port, _ := strings.Cut(addr, ":")
	text := fmt.Sprintf("port = %s\naddress = 127.0.0.1\nuse chroot = no\npid file =\n[updates]\npath = %s\nread only = yes\n", port, c.data.dir)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return err
	}
	c.rsync, err = c.l.children.start(ctx, addr, conf+".log", "rsync", "--daemon", "--no-detach", "--config", conf)
	if err != nil {
		return err
	}
	return c.rsync.wait(ctx, 10*time.Millisecond, func() bool { return listens(addr) })
}

func (c *copying) stop() {
	for _, p := range []*process{c.ours, c.nginx, c.rsync} {
		if p != nil {
			p.stop()
		}
	}
	c.clean()
}

// clean removes the copies, which is not measured.
func (c *copying) clean() {
	for _, dir := range c.copies {
		_ = os.RemoveAll(dir) // what it leaves, the end of the run removes
	}
	c.copies = nil
}

// fewFiles is up to how many files of a copy are removed before the next is made. ext4 without a journal makes a new
// file the slower the more were removed in the last five minutes, since it looks at the inode of each: the later a copy,
// the slower it would be.
const fewFiles = 100

// folder returns a directory that is not there yet, to copy into.
func (c *copying) folder() string {
	if len(c.data.names) <= fewFiles {
		c.clean()
	}
	c.next++
	dir := filepath.Join(c.l.dir, fmt.Sprintf("copy-%d", c.next))
	c.copies = append(c.copies, dir)
	return dir
}

// syncing is how a mirror is told to copy once.
func (c *copying) syncing(dir string) []string {
	return []string{"mirror", c.ours.url(""), "--root", c.signer.root(), "--data-dir", dir, "--once"}
}

// copiers are the programs that copy, each with its arguments to copy into a directory.
func (c *copying) copiers() map[string]func(dir string) []string {
	return map[string]func(string) []string{
		"cp": func(dir string) []string { return []string{"-r", c.data.dir, dir} },
		"rsync": func(dir string) []string {
			return []string{"-a", "rsync://" + c.rsync.addr + "/updates/", dir + "/"}
		},
		"rclone": func(dir string) []string {
			return []string{"copy", "--config", "", "--http-url", c.nginx.url("/update/"), ":http:", dir}
		},
		"curl": func(dir string) []string {
			return []string{"-sS", "--fail", "--parallel", "--parallel-max", "8", "--remote-name-all", "--create-dirs",
				"--output-dir", dir, "--config", filepath.Join(c.l.dir, "curl.conf")}
		},
	}
}

// rivals are the copiers with which a mirror is compared. cp, which reads the same disk, is the limit.
func rivals() []string { return []string{"rsync", "rclone", "curl"} }

// urls writes the configuration of curl, one URL a line.
func (c *copying) urls() error {
	var b strings.Builder
	for _, name := range c.data.names {
		fmt.Fprintf(&b, "url = %q\n", c.nginx.url("/update/"+name))
	}
	return os.WriteFile(filepath.Join(c.l.dir, "curl.conf"), []byte(b.String()), 0o644)
}

// first measures the first copy: all programs in turn, and ours compared with the fastest of them.
func (c *copying) first(ctx context.Context, n int, size int64) error {
	if err := c.urls(); err != nil {
		return err
	}
	var ours, peaks sample
	times, synced := map[string]sample{}, map[string]sample{}
	for range c.l.pairs {
		// Who watches a process's memory takes time from it.
		peak, err := c.l.peak(ctx, c.l.server, c.syncing(c.folder())...)
		if err != nil {
			return err
		}
		took, err := timed(ctx, c.l.server, c.syncing(c.folder())...)
		if err != nil {
			return err
		}
		ours, peaks = append(ours, took.Seconds()), append(peaks, peak)
		for program, args := range c.copiers() {
			took, sync, err := c.copy(ctx, program, args)
			if err != nil {
				return err
			}
			times[program] = append(times[program], took)
			synced[program] = append(synced[program], took+sync)
		}
	}
	what := fmt.Sprintf("first copy of %d archives of %d kB", n, size/kB)
	const command = "box-update-server mirror URL --root 1.root.json --data-dir M --once"
	fastest, note := compared(times)
	c.l.add(figure{family: "mirror", what: what, unit: "s", command: command, ours: ours,
		theirs: times[fastest], against: fastest, goal: goal{ratioAtMost, 1}, note: note})
	fastest, note = compared(synced)
	c.l.add(figure{family: "mirror", what: what + ", on the disk", unit: "s", command: command, ours: ours,
		theirs: synced[fastest], against: fastest + ", sync", note: note})
	c.l.add(figure{family: "mirror", what: "memory, " + what, unit: "MB", command: command, ours: peaks, goal: goal{valueAtMost, 64}})
	return nil
}

// compared returns the fastest rival, and a note with what all of them took.
func compared(times map[string]sample) (fastest, note string) {
	fastest = slices.MinFunc(rivals(), func(a, b string) int { return cmp.Compare(times[a].median(), times[b].median()) })
	var all []string
	for _, program := range append(rivals(), "cp") {
		all = append(all, fmt.Sprintf("%s %s", program, times[program]))
	}
	return fastest, strings.Join(all, ", ")
}

// copy has a program copy everything and returns how many seconds that took, and how many more until all of
// it is on the disk, where a mirror has it when it ends.
func (c *copying) copy(ctx context.Context, program string, args func(dir string) []string) (took, sync float64, err error) {
	dir := c.folder()
	if program == "curl" {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return 0, 0, err
		}
	}
	copied, err := timed(ctx, program, args(dir)...)
	if err != nil {
		return 0, 0, err
	}
	synced, err := timed(ctx, "sync", "-f", dir)
	if err != nil {
		return 0, 0, err
	}
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) != len(c.data.names) {
		err = fmt.Errorf("%s copied %d of %d archives", program, len(entries), len(c.data.names))
	}
	return copied.Seconds(), synced.Seconds(), err
}

// again measures a sync with nothing new and one with one update more.
func (c *copying) again(ctx context.Context, n int) error {
	dir := c.folder()
	sync := c.syncing(dir)
	if _, err := timed(ctx, c.l.server, sync...); err != nil {
		return err
	}
	const command = "box-update-server mirror URL --root 1.root.json --data-dir M --once"
	err := c.l.alone(ctx, figure{family: "mirror", what: fmt.Sprintf("sync with nothing new, %d updates", n), unit: "s", command: command,
		goal: goal{valueAtMost, 0.05}}, seconds(c.l.server, sync...))
	if err != nil {
		return err
	}
	if err := c.data.extend(1, kB); err != nil {
		return err
	}
	if _, err := c.signer.publish(ctx, filepath.Join(c.data.dir, c.data.newest()), c.ours); err != nil {
		return err
	}
	took, err := timed(ctx, c.l.server, sync...)
	if err != nil {
		return err
	}
	c.l.add(figure{family: "mirror", what: fmt.Sprintf("sync with one new update of 1 kB, %d updates", n+1), unit: "s", command: command,
		ours: sample{took.Seconds()}})
	return nil
}
