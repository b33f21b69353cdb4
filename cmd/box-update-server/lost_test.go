package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/update"
)

// timestamp returns the version of the timestamp that is served.
func (s *server) timestamp(t *testing.T) (version int64) {
	t.Helper()
	var file struct{ Signed struct{ Version int64 } }
	if err := json.Unmarshal([]byte(get(t, s.base+"/metadata/timestamp.json").body), &file); err != nil {
		t.Fatal(err)
	}
	return file.Signed.Version
}

// One archive that is lost doesn't let the repository expire: what is left is renewed and served, health
// says which archive is lost, and what brings it back.
func TestLostArchive(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	s, p := w.serve(), w.owner()
	dir := t.TempDir()
	kept, lost := packRandom(t, dir, 1600000000, 100_000), packRandom(t, dir, 1600000001, 100_000)
	p.must("publish", kept, lost, s.base)
	before := s.timestamp(t)
	s.stop(t)
	d := digest(read(t, lost))
	w.check(os.Remove(filepath.Join(w.dir, "sha256", d[:2], d)))

	s = w.serve()
	if now := s.timestamp(t); now != before+1 {
		t.Errorf("timestamp %d was followed by %d", before, now)
	}
	s.awaitHealth(t, fmt.Sprintf("archives: 1 that are listed can't be served, the first is %s: publish it again with boxsign", filepath.Base(lost)))
	get(t, s.base+"/healthz").has(t, "Content-Type", "application/json")
	if a := get(t, s.base+"/healthz"); a.status != 503 {
		t.Errorf("healthz: %d", a.status)
	}
	if a := get(t, s.base+"/readyz"); a.status != 200 {
		t.Errorf("readyz: %d %s", a.status, a.body)
	}
	get(t, s.base+"/update/"+filepath.Base(kept)).isArchive(t, filepath.Base(kept), read(t, kept))
	get(t, s.base+"/update/"+filepath.Base(lost)).isNotFound(t)

	says(t, p.must("publish", kept, s.base), "state: unchanged\n")
	p.refused("publish", []string{packRandom(t, dir, 1600000002, 1000), s.base}, filepath.Base(lost)+": the origin does not have the archive")
	says(t, p.must("publish", lost, s.base), "targets: 2 -> 4\n", "the repository has lost its archive", "state: published\n", "at: "+s.base+"/update/"+filepath.Base(lost)+"\n")
	says(t, p.must("publish", lost, s.base), "state: unchanged\n")
	s.await(t, "/healthz", 200)
	p.lists(s.base, filepath.Base(kept), filepath.Base(lost))
}

// TestScrub damages an archive of a mirror: without anybody's doing it is found, and fetched anew.
func TestScrub(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	origin := w.serve()
	archive := pattern(9 << 20)
	w.list(map[string][]byte{newest: archive}).publish(t, origin.base)
	c := w.mirror(origin.base).synced(t)
	c.stop(t)
	damage(t, c.dir, archive)
	path := filepath.Join(c.dir, "sha256", update.Sum(archive).String()[:2], update.Sum(archive).String())
	before, err := os.ReadFile(path)
	w.check(err)
	if bytes.Equal(before, archive) {
		t.Fatal("nothing is damaged")
	}
	m := w.mirrorIn(c.dir, origin.base, "--scrub-every", "1s")
	m.awaitLog(t, "archive is damaged, and fetched anew")
	testworld.Await(t, "the archive as it was", func() bool {
		b, err := os.ReadFile(path)
		return err == nil && bytes.Equal(b, archive)
	})
	says(t, exits(t, 0, "status", "--data-dir", c.dir), "archives: ")
}
