package main

import (
	"fmt"
	"path/filepath"
)

// measureSigning measures boxsign without a server.
func measureSigning(b *bench) {
	s := b.signer()
	b.scope(func() {
		// openssl only hashes what boxsign verifies.
		size := b.gigabyte()
		file := b.archives(1, size).files()[0]
		b.seconds(s.program, "sign", "--keys", s.keys, "--force", file)
		verify := []string{"verify", "--key", filepath.Join(s.keys, "release.pub"), file}
		const command = "boxsign verify --key release.pub ARCHIVE"
		b.add(b.pair(figure{what: fmt.Sprintf("verify an archive of %d MB", size/mB), unit: "s", command: command,
			against: "openssl dgst -sha256", goal: goal{ratioAtMost, 1.1}},
			b.timing(s.program, verify...), b.timing("openssl", "dgst", "-sha256", file)))
		b.alone(figure{what: fmt.Sprintf("memory, verify an archive of %d MB", size/mB), unit: "MB", command: command,
			goal: goal{valueAtMost, 32}}, func() float64 { return b.peak(s.program, verify...) })
	})
	files := b.archives(listed, kB).files()
	before, left := files[:listed-b.pairs], files[listed-b.pairs:]
	s.add(before...)
	b.alone(figure{what: "add one update to 2,000", unit: "s", command: "boxsign add --keys K --repo R ARCHIVE",
		goal: goal{valueAtMost, 0.5}}, func() float64 {
		file := left[0]
		left = left[1:]
		return s.add(file)
	})
	b.alone(figure{what: "verify the metadata of 2,000 updates", unit: "s",
		command: "boxsign verify-repo --metadata-only --root 1.root.json R", goal: goal{valueAtMost, 1}},
		b.timing(s.program, "verify-repo", "--metadata-only", "--root", s.root, s.repo))
}

// measurePublishing measures boxsign with a server, and a server with a repository.
func measurePublishing(b *bench) {
	const command = "boxsign publish --keys K ARCHIVE http://SERVER"
	b.scope(func() {
		// A publish of a big archive beside sending it to nginx and hashing it once. nginx does not wait until
		// it is on the disk, and keeps those before, as an origin does: memory that the machine has not used yet
		// is dearer than what an old file gives back.
		s := b.signer()
		size := b.gigabyte()
		data := b.archives(1, size)
		server := b.serve(nil, s.serving()...)
		nginx := b.nginx(nginxSite{Uploads: true}, nil)
		ours := func() float64 { return s.publish(b.renew(data), server) }
		theirs := func() float64 {
			file := data.files()[0]
			return b.seconds("curl", "-sS", "--fail", "-T", file, nginx.url("/put/"+filepath.Base(file))) +
				b.seconds("openssl", "dgst", "-sha256", file)
		}
		f := b.pair(figure{what: fmt.Sprintf("publish an archive of %d MB", size/mB), unit: "s", command: command,
			against: "curl -T, openssl", goal: goal{ratioAtMost, 1.3}}, ours, theirs)
		m, err := server.memory()
		b.check(err)
		f.note = fmt.Sprintf("VmHWM of the server %s MB", number(m.peak))
		b.add(f)
	})
	s := b.signer()
	data := b.archives(listed-2-b.pairs, kB)
	b.extend(data, 1, mB)
	megabyte := data.url()
	b.extend(data, 1, 200*mB)
	s.add(data.files()...)
	b.scope(func() {
		// A server with a repository beside nginx on a plain directory of the same archives.
		ours := b.serve(data.names, s.serving()...)
		d := duel{ours, b.nginx(nginxSite{Updates: data.dir}, ours, "/version")}
		for _, c := range []struct {
			what, path, script string
			sample             string // the range of which both must answer the same
			ratio              float64
		}{
			{"/version", "/version", "", "", 0.8},
			{"64 kB ranges", data.url(), b.write("ranges.lua", rangesLua), "bytes=1000000-1065535", 0.6},
			{"1 MB archives", megabyte, "", "", 0.85},
		} {
			b.same(d, c.path, c.sample)
			b.wrkPair(figure{what: "2,000 updates: " + c.what + ", 64 connections", goal: goal{ratioAtLeast, c.ratio}},
				d, wrkLoad{path: c.path, connections: 64, script: c.script})
		}
	})
	b.alone(figure{what: "2,000 updates: start to first answer", unit: "s", command: "make bench FAMILIES=publishing",
		goal: goal{valueAtMost, 0.5}}, b.firstAnswer(data, s.serving()...))
	server := b.serve(nil, s.serving()...)
	b.alone(figure{what: "2,000 updates: publish one of 1 kB", unit: "s", command: command, goal: goal{valueAtMost, 1}},
		func() float64 { return s.publish(b.extend(data, 1, kB), server) })
}
