package main

import (
	"bytes"
	"fmt"
	"net"
	"time"
)

// smallArchives is how many archives make /updates.json about 2 kB long.
const smallArchives = 10

// measureSmall compares the answers that our server has in memory with the same bytes as files in
// nginx.
func measureSmall(b *bench) {
	paths := []string{"/version", "/ls", "/updates.json"}
	d := b.duel(b.archives(smallArchives, kB), paths...)
	for _, path := range paths {
		length := b.same(d, path, "")
		for _, n := range []int{64, 1000} {
			b.wrkPair(figure{what: fmt.Sprintf("%s, %d B, %d connections", path, length, n), goal: goal{ratioAtLeast, 0.8}},
				d, wrkLoad{path: path, connections: n})
		}
	}
}

// measureLogged compares both servers when each writes a line per request to a file.
func measureLogged(b *bench) {
	data := b.archives(smallArchives, kB)
	ours := b.serve(data.names, "--updates-dir", data.dir, "--log-requests=true")
	d := duel{ours, b.nginx(nginxSite{Updates: data.dir, AccessLog: true}, ours, "/version")}
	b.wrkPair(figure{what: "/version, logged, 64 connections"}, d, wrkLoad{path: "/version", connections: 64})
}

// measurePage measures the status page of 1,000 signed updates.
func measurePage(b *bench) {
	s := b.signer()
	data := b.archives(1000, kB)
	s.add(data.files()...)
	server := b.serve(data.names, s.serving()...)
	page := func(encoding string) (body []byte) {
		resp, body := b.get(server.url("/"), "Accept", "text/html", "Accept-Encoding", encoding)
		if encoding == "" && !bytes.HasPrefix(body, []byte("<!doctype html>")) || resp.Header.Get("Content-Encoding") != encoding {
			b.fatalf("no status page: %.80q", body)
		}
		return body
	}
	const command = "make bench FAMILIES=page"
	b.add(figure{what: "status page of 1,000 updates, before gzip", unit: "kB", command: command,
		ours: sample{float64(len(page(""))) / 1000}, goal: goal{valueAtMost, 30}})
	b.add(figure{what: "the same as sent to a browser", unit: "kB", command: command,
		ours: sample{float64(len(page("gzip"))) / 1000}, goal: goal{valueAtMost, 30}})
	after := func(n int, change func()) side {
		return func() float64 {
			var took sample
			for range n {
				change()
				begin := time.Now()
				page("")
				took = append(took, float64(time.Since(begin))/float64(time.Millisecond))
			}
			return took.median()
		}
	}
	b.alone(figure{what: "the page after a publish, median of 10", unit: "ms", command: command,
		goal: goal{valueAtMost, 20}, note: "with the request over loopback"}, after(10, func() { s.publish(b.extend(data, 1, kB), server) }))
	b.alone(figure{what: "the page without a change, median of 100", unit: "ms", command: command}, after(100, func() {}))
}

// measureMetrics compares our server with itself, without metrics, log and limits.
func measureMetrics(b *bench) {
	data := b.archives(smallArchives, mB)
	for _, with := range []struct {
		what string
		args []string
	}{
		{"metrics", []string{quiet}},
		{"limits", []string{quiet, unmeasured, manyDownloads, muchBandwidth}},
		{"metrics, log and limits", []string{manyDownloads, muchBandwidth}},
	} {
		for _, of := range []struct{ what, path string }{{"/version", "/version"}, {"1 MB archives", data.url()}} {
			b.scope(func() {
				d := duel{b.serve(data.names, append(with.args, "--updates-dir", data.dir)...),
					b.serve(data.names, quiet, unmeasured, "--updates-dir", data.dir)}
				b.wrkPair(figure{what: of.what + ", with " + with.what, against: "without", goal: goal{ratioAtLeast, 0.95}},
					d, wrkLoad{path: of.path, connections: 64})
			})
		}
	}
}

// measureRanges compares ranges of a large archive.
func measureRanges(b *bench) {
	data := b.archives(1, 200*mB)
	script := b.write("ranges.lua", rangesLua)
	d := b.duel(data)
	b.same(d, data.url(), "bytes=1000000-1065535")
	for _, n := range []int{64, 1000} {
		b.wrkPair(figure{what: fmt.Sprintf("64 kB ranges, %d connections", n), goal: goal{ratioAtLeast, 0.6}},
			d, wrkLoad{path: data.url(), connections: n, script: script})
	}
}

// measureArchives compares whole archives of 1 MB.
func measureArchives(b *bench) {
	data := b.archives(8, mB)
	d := b.duel(data)
	b.same(d, data.url(), "")
	for _, n := range []int{64, 1000} {
		b.wrkPair(figure{what: fmt.Sprintf("1 MB archives, %d connections", n), goal: goal{ratioAtLeast, 0.85}},
			d, wrkLoad{path: data.url(), connections: n})
	}
}

// measureLarge compares downloads of 200 MB archives, and the memory that the servers need for them.
func measureLarge(b *bench) {
	data := b.archives(1, 200*mB)
	d := b.duel(data)
	b.same(d, data.url(), "bytes=0-99")
	const command = "make bench FAMILIES=large"
	for _, n := range []int{8, 200} {
		rate := func(p *process) side {
			return func() float64 {
				rate, err := discardRate(b.ctx, p.addr, data.url(), n, b.load)
				b.check(err)
				return rate
			}
		}
		b.add(b.pair(figure{what: fmt.Sprintf("200 MB archives, %d downloads", n), unit: "MB/s", command: command,
			against: "nginx", goal: goal{ratioAtLeast, 0.95}}, rate(d.ours), rate(d.nginx)))
	}
	var peaks [2]sample
	// The memory in the middle of 200 downloads.
	during := func(p *process, peak *sample) side {
		return func() float64 {
			ended := make(chan error, 1)
			go func() {
				_, err := discardRate(b.ctx, p.addr, data.url(), 200, b.load)
				ended <- err
			}()
			time.Sleep(b.load / 2)
			m, err := p.memory()
			b.check(<-ended)
			b.check(err)
			*peak = append(*peak, m.peak)
			return m.now
		}
	}
	f := b.pair(figure{what: "memory, 200 downloads of 200 MB", unit: "MB", command: command, against: "nginx",
		goal: goal{valueAtMost, 40}}, during(d.ours, &peaks[0]), during(d.nginx, &peaks[1]))
	f.note = peakNote(peaks[0], peaks[1])
	b.add(f)
}

// measureIdle measures the memory of connections that wait after one request.
func measureIdle(b *bench) {
	b.measureHeld(figure{what: "memory, 10,000 idle connections", command: "make bench FAMILIES=idle", goal: goal{valueAtMost, 200}},
		0, func(conn *net.TCPConn, _ *drop) error {
			length, err := ask(conn, "/version")
			if err == nil {
				_, err = discard(conn, length)
			}
			return err
		})
}

// measureUnread measures the memory of connections whose clients asked for 1 MB and read only the head
// of the answer. Their receive buffers are small: what the server's kernel holds is the same then for
// every server and leaves room for all connections.
func measureUnread(b *bench) {
	b.measureHeld(figure{what: "memory, 10,000 unread bodies of 1 MB", command: "make bench FAMILIES=unread", goal: goal{valueAtMost, 300}},
		16*kB, func(conn *net.TCPConn, data *drop) error {
			_, err := ask(conn, data.url())
			return err
		})
}

// measureHeld adds f with the memory of fresh servers whose connections all made one visit.
func (b *bench) measureHeld(f figure, window int, visit func(*net.TCPConn, *drop) error) {
	data := b.archives(1, mB)
	f.unit, f.against = "MB", "nginx"
	for range min(b.pairs, 3) {
		b.scope(func() {
			d := b.duel(data, "/version")
			visit := func(conn *net.TCPConn) error { return visit(conn, data) }
			ours, theirs := b.hold(d.ours, window, visit), b.hold(d.nginx, window, visit)
			f.ours, f.theirs = append(f.ours, ours.now), append(f.theirs, theirs.now)
			f.note = peakNote(sample{ours.peak}, sample{theirs.peak})
		})
	}
	b.add(f)
}

// measureHash compares how fast our server hashes archives that it sees for the first time with
// openssl, both on one core and from the page cache. Ours includes the start of the server.
func measureHash(b *bench) {
	size := b.gigabyte() / 2
	data := b.archives(4, size)
	mb := float64(4*size) / mB
	ours := func() (rate float64) {
		b.scope(func() {
			addr := b.freeAddress()
			begin := time.Now()
			p := b.start(addr, "taskset", "-c", "0", b.server, "serve", "--listen", addr, "--updates-dir", data.dir, quiet)
			b.waitHashed(p, data.names)
			rate = mb / time.Since(begin).Seconds()
		})
		return rate
	}
	theirs := func() float64 {
		return mb / b.seconds("taskset", append([]string{"-c", "0", "openssl", "dgst", "-sha256"}, data.files()...)...)
	}
	b.add(b.pair(figure{what: fmt.Sprintf("first hash of %.0f MB in 4 archives", mb), unit: "MB/s", against: "openssl",
		command: "taskset -c 0 openssl dgst -sha256 ARCHIVE…", goal: goal{ratioAtLeast, 0.9}}, ours, theirs))
}

// measureStart measures how long a server with 10,000 archives, whose digests it knows from last time,
// takes to answer.
func measureStart(b *bench) {
	data := b.archives(10000, kB)
	args := []string{"--updates-dir", data.dir, quiet, "--data-dir", b.newDir("start")}
	b.scope(func() { b.serve(data.names, args...) })
	b.alone(figure{what: "start to first answer, 10,000 archives", unit: "s", command: "make bench FAMILIES=start",
		goal: goal{valueAtMost, 0.3}}, b.firstAnswer(data, args...))
}
