package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
)

// An archive that grows while it is listed is only ever given the digest of bytes that were still for
// a while, and has that of the whole at the end.
func TestArchiveThatGrows(t *testing.T) {
	t.Parallel()
	older := name(1547861057, "tar.bz2")
	dir := dropped(t, older)
	s := serve(t, dir)
	f, err := os.Create(filepath.Join(dir, newest))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	whole := pattern(1 << 20)
	half, all := digest(whole[:1<<19]), digest(whole)
	digests := grow(t, s, f, whole, 1<<19, half)
	s.await(t, "/update/"+newest, 200) // it paused for long enough
	digests = grow(t, s, f, whole, 1<<20, append(digests, all)...)

	testworld.Await(t, "the digest of the whole", func() bool { return checkDigest(t, s, digests...) == all })
	get(t, s.base+"/update/"+newest).isArchive(t, newest, whole)
	get(t, s.base+"/ls").is(t, 200, "text/plain", older+"\n"+newest)
}

// grow appends in steps, each after a pause that is too short to count, and checks which digest the
// newest update has meanwhile. It returns those that it may have from now on.
func grow(t *testing.T, s *server, f *os.File, whole []byte, to int, digests ...string) []string {
	t.Helper()
	const step = 128 << 10
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for from := to - 4*step; from < to; from += step {
		wrote := time.Now()
		if _, err := f.Write(whole[from : from+step]); err != nil {
			t.Fatal(err)
		}
		for range 8 {
			<-tick.C
			if time.Since(wrote) > time.Second/2 { // a busy machine: it may have been still for long enough, or soon be
				digests = append(digests, digest(whole[:from+step]))
			}
			checkDigest(t, s, digests...)
		}
	}
	return digests
}

// checkDigest returns the digest of the newest update, "" where it has none now. The test fails unless
// it is one of those given, and what is sent for it has it.
func checkDigest(t *testing.T, s *server, digests ...string) string {
	t.Helper()
	a := get(t, s.base+"/update/"+newest+".sha256")
	if a.status == 404 || a.status == 503 {
		return ""
	}
	d, rest, _ := strings.Cut(a.body, " ")
	if a.status != 200 || rest != " "+newest+"\n" || !slices.Contains(digests, d) {
		t.Errorf("got %d %q", a.status, a.body)
	}
	if a := get(t, s.base+"/sha256/"+d); a.status == 200 && digest([]byte(a.body)) != d {
		t.Errorf("%d other bytes for %s", len(a.body), d)
	}
	return d
}

func TestDirectoryThatVanishes(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	dir, away := filepath.Join(parent, "updates"), filepath.Join(parent, "away")
	if err := os.Rename(dropped(t, newest), dir); err != nil {
		t.Fatal(err)
	}
	s := serve(t, dir)
	s.awaitHashed(t, newest)
	if err := os.Rename(dir, away); err != nil {
		t.Fatal(err)
	}
	if a := s.await(t, "/latest", 503); a.header.Get("Retry-After") == "" {
		t.Error("503 without Retry-After")
	}
	s.awaitLog(t, "updates", dir, "no such file or directory")
	s.awaitHealth(t, "no such file or directory")
	if *health(t, s.base).OK {
		t.Error("health is ok without a directory")
	}
	if err := os.Rename(away, dir); err != nil {
		t.Fatal(err)
	}
	s.await(t, "/latest", 303)
	s.awaitHashed(t, newest)
	get(t, s.base+"/update/"+newest).isArchive(t, newest, body(newest))
	testworld.Await(t, "health that is ok", func() bool { return !strings.Contains(get(t, s.base+"/").body, "no such file") })
}

// An archive that the server may not read is left out, so that /latest names one that can be had.
func TestArchiveThatCannotBeRead(t *testing.T) {
	t.Parallel()
	older := name(1547861057, "tar.bz2")
	dir := dropped(t, older, newest)
	if err := os.Chmod(filepath.Join(dir, newest), 0); err != nil {
		t.Fatal(err)
	}
	s := launch{settings: map[string]any{"updates_dir": dir}, asNobody: true}.start(t)
	s.awaitLog(t, "level=WARN", newest, "permission denied")
	s.awaitHealth(t, newest, "permission denied")
	get(t, s.base+"/ls").is(t, 200, "text/plain", older)
	get(t, s.base+"/latest").isRedirect(t, "/update/"+older)
	get(t, s.base+"/update/"+newest).isNotFound(t)
	if err := os.Chmod(filepath.Join(dir, newest), 0o644); err != nil {
		t.Fatal(err)
	}
	testworld.Await(t, newest, func() bool { return get(t, s.base+"/ls").body == older+"\n"+newest })
}

func TestDirectoryThatCannotBeRead(t *testing.T) {
	t.Parallel()
	dir := dropped(t, newest)
	t.Cleanup(func() { _ = os.Chmod(dir, 0o755) }) // so that it can be removed
	s := launch{settings: map[string]any{"updates_dir": dir}, asNobody: true}.start(t)
	if err := os.Chmod(dir, 0); err != nil {
		t.Fatal(err)
	}
	s.awaitLog(t, dir, "permission denied")
	s.await(t, "/latest", 503)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s.await(t, "/latest", 303)
}

func TestTenThousandArchives(t *testing.T) {
	t.Parallel()
	const count = 10_000
	dir := t.TempDir()
	var names []string
	for i := range count {
		n := name(1_500_000_000+i*7919%count, "tar.bz2")
		if err := os.WriteFile(filepath.Join(dir, n), []byte(n), 0o644); err != nil {
			t.Fatal(err)
		}
		still(t, filepath.Join(dir, n))
		names = append(names, name(1_500_000_000+i, "tar.bz2"))
	}
	start := time.Now()
	s := serve(t, dir)
	get(t, s.base+"/ls").is(t, 200, "text/plain", strings.Join(names, "\n"))
	t.Logf("listed after %v", time.Since(start))
	get(t, s.base+"/version").is(t, 200, "text/plain", fmt.Sprint(1_500_000_000+count-1))
	s.awaitHashed(t, names[0]) // the oldest is hashed last
	t.Logf("hashed after %v", time.Since(start))
	get(t, s.base+"/sha256/"+digest([]byte(names[count/2]))).isArchive(t, names[count/2], []byte(names[count/2]))
	health(t, s.base)
	if a := get(t, s.base+"/"); a.length > 64<<10 {
		t.Errorf("health of 10,000 improper archives has %d bytes", a.length)
	}
}

// A data directory keeps digests over a restart, without an archive being read again.
func TestDigestsOutliveARestart(t *testing.T) {
	t.Parallel()
	dir, data := dropped(t, newest), t.TempDir()
	run := launch{settings: map[string]any{"updates_dir": dir, "data_dir": data}}
	s := run.start(t)
	line := s.awaitHashed(t, newest)
	s.stop(t)
	s = run.start(t)
	if got := get(t, s.base+"/update/"+newest+".sha256"); got.body != line {
		t.Errorf("at once after a restart: got %d %q, want %q", got.status, got.body, line)
	}
}
