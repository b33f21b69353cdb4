package main_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openpowerquality/box-update-server/internal/testworld"
)

// terminal opens a terminal, of which shown gets what is written to it until nobody has it any more.
func terminal(t *testing.T, shown io.Writer) *os.File {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(screen.Fd())
	n, err := unix.IoctlGetUint32(fd, unix.TIOCGPTN)
	for _, err := range []error{
		err, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0),
		unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 120}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(shown, screen) // it ends with the error of a terminal without a user
	}()
	t.Cleanup(func() {
		<-read
		screen.Close()
	})
	return tty
}

// Whoever starts a mirror in a terminal sees how its first sync goes on, and its log above that.
func TestFirstSyncOnATerminal(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	origin := w.serve()
	w.list(map[string][]byte{newest: pattern(9 << 20), name(1540000000, "tar.gz"): pattern(5 << 20)}).publish(t, origin.base)
	dir := filepath.Join(t.TempDir(), "M")
	c := launch{terminal: true, args: []string{
		"mirror", origin.base, "--root", w.pinned(), "--data-dir", dir, "--listen", "127.0.0.1:0", "--bandwidth", "5000000",
	}}.start(t)
	c.await(t, "/readyz", 200)
	c.awaitLog(t, "new repository served", "fetched=2")
	w.serveAll(origin.base, c.base)
	says(t, c.log.String(), " of 2 archives ", " of 14.7 MB ", "MB/s", " left")
}

// A check that another process makes is shown to whoever asked for it.
func TestFsckShowsAnothersProgress(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	origin := w.serve()
	archive := pattern(9 << 20)
	w.list(map[string][]byte{newest: archive}).publish(t, origin.base)
	c := w.mirror(origin.base).synced(t)
	damage(t, c.dir, archive)
	fsck := launch{terminal: true, args: []string{"fsck", "--data-dir", c.dir, "--read-rate", "4000000"}}.run(t)
	fsck.ends(t)
	says(t, fsck.log.String(), "reading "+newest+" ", " of 9.4 MB ", "MB/s", " left")
	w.serveAll(origin.base, c.base)
	// The lines, for other programs; without them there is one answer.
	a := do(t, http.MethodPost, c.admin+"/fsck", "Accept", "application/x-ndjson")
	lines := strings.Split(strings.TrimSpace(a.body), "\n")
	if a.status != 200 || a.header.Get("Content-Type") != "application/x-ndjson" || len(lines) < 3 ||
		lines[0] != `{"planned":9437184}` || !strings.HasPrefix(lines[len(lines)-1], `{"report":{"checked":1,"problems":[]`) {
		t.Errorf("%d %s", a.status, a.body)
	}
	a = do(t, http.MethodPost, c.admin+"/fsck")
	if a.status != 200 || !json.Valid([]byte(a.body)) || !strings.HasPrefix(a.body, `{"checked":1,`) {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := do(t, http.MethodPost, c.admin+"/fsck?read_rate=-1"); a.status != 502 {
		t.Errorf("a negative rate: %d %s", a.status, a.body)
	}
	// What can't be repaired is told by the last line.
	damage(t, c.dir, archive)
	origin.stop(t)
	says(t, exits(t, 3, "fsck", "--data-dir", c.dir), "something is still wrong", origin.base)
}

// Nobody asks for a sync: each mirror comes by itself, and what was published reaches the last one, from
// mirror to mirror; on a quiet machine within two intervals.
func TestPublishReachesTheLastByItself(t *testing.T) {
	t.Parallel()
	const (
		interval = 3 * time.Second
	)
	w := newSigner(t)
	origin := w.serve()
	w.list(map[string][]byte{newest: pattern(9 << 20)}).publish(t, origin.base)
	first := w.mirror(origin.base, "--interval", interval.String()).synced(t)
	second := w.mirror(first.base, "--interval", interval.String()).synced(t)
	w.serveAll(origin.base, second.base)
	file := packRandom(t, t.TempDir(), 1600000000, 5<<20)
	w.owner().must("publish", file, origin.base)
	published := time.Now()
	out := t.TempDir()
	curl := need(t, "curl", "curl")
	testworld.Await(t, "the update at the last mirror", func() bool { return get(t, second.base+"/version").body == "1600000000" })
	took := time.Since(published)
	t.Logf("after %v, which is %.1f intervals", took, took.Seconds()/interval.Seconds())
	command(t, out, curl, "-fsSLO", second.base+"/update/"+filepath.Base(file))
	if digest(read(t, out, filepath.Base(file))) != digest(read(t, file)) {
		t.Error("other bytes at the last mirror")
	}
	w.serveAll(origin.base, first.base)
	w.serveAll(first.base, second.base)
	for _, c := range []copied{first, second} {
		says(t, exits(t, 0, "status", "--data-dir", c.dir, "--json"), `"updates_behind": 0`)
	}
}
