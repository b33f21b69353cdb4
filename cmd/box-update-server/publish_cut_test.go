package main_test

import (
	"fmt"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/testworld"
)

// cutSize is the size of an archive of 31 blocks, of which the first 80 MiB pass before the cut.
const (
	cutSize  = 121 << 20
	cutAt    = 80 << 20
	cutOf    = 31
	unsynced = 15 // blocks that a server may forget when it is killed: it syncs each 16th
)

// resumed fails the test unless a publish that was cut sent each block, and only so many twice.
func resumed(t *testing.T, before, after map[string]int, most int) {
	t.Helper()
	if len(before) <= unsynced || len(after) == 0 {
		t.Fatalf("%d blocks were sent before the cut, %d after it", len(before), len(after))
	}
	twice := 0
	for path := range before {
		if after[path] > 0 {
			twice++
		}
	}
	if twice > most {
		t.Errorf("%d blocks that were there were sent again, want at most %d", twice, most)
	}
	if sent := len(before) + len(after) - twice; sent != cutOf {
		t.Errorf("%d blocks were taken, want %d", sent, cutOf)
	}
}

// boxsign is killed in the middle of an upload; the same command goes on.
func TestPublishGoesOnAfterBoxsignIsKilled(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	s, p := w.serve(), w.owner()
	path := packRandom(t, t.TempDir(), 1600000000, cutSize)
	slow := relayTo(t, s.addr, cutAt)
	cut := begin(t, p.boxsign("publish", path, slow.base))
	testworld.Await(t, "some blocks", func() bool { return len(s.blocksTaken()) > unsynced+1 })
	cut.kill()
	slow.cut()
	before := s.blocksTaken()
	get(t, s.base+"/ls").is(t, 200, "text/plain", "")
	says(t, p.must("publish", path, s.base), "targets: 1 -> 2\n", "state: published\n")
	after := s.blocksTaken()
	for path, n := range before {
		if after[path] -= n; after[path] == 0 {
			delete(after, path)
		}
	}
	resumed(t, before, after, 0)
	p.lists(s.base, filepath.Base(path))
}

// The server is killed in the middle of an upload and started again; the same command goes on, and so
// would have the one that was running.
func TestPublishGoesOnAfterTheServerIsKilled(t *testing.T) {
	t.Parallel()
	for label, again := range map[string]bool{"the command that runs": false, "the same command again": true} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			w := newSigner(t)
			listen := fmt.Sprintf("127.0.0.1:%d", freePort(t))
			start := launch{args: []string{"serve", "--data-dir", w.dir, "--online-key", w.onlineKey(), "--listen", listen}}
			doomed, p := start.run(t), w.owner()
			t.Cleanup(func() { _ = doomed.cmd.Process.Kill() }) // it has ended, if all goes well
			testworld.Await(t, "the server", func() bool { return accepts(listen) })
			path := packRandom(t, t.TempDir(), 1600000000, cutSize)
			slow := relayTo(t, listen, cutAt)
			cut := begin(t, p.boxsign("publish", path, slow.base))
			testworld.Await(t, "some blocks", func() bool { return len(doomed.blocksTaken()) > unsynced+1 })
			doomed.signal(t, syscall.SIGKILL)
			<-doomed.done
			before := doomed.blocksTaken()
			s := start.start(t)
			if again {
				cut.kill()
			}
			slow.lift()
			slow.cut()
			if again {
				cut = begin(t, p.boxsign("publish", path, slow.base))
			}
			says(t, cut.ends(t), "targets: 1 -> 2\n", "state: published\n")
			resumed(t, before, s.blocksTaken(), unsynced)
			p.lists(s.base, filepath.Base(path))
		})
	}
}
