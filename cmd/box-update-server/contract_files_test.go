package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/testworld"
)

func properArchivesHaveNoWarning(t *testing.T) {
	dir := t.TempDir()
	january2019 := map[string]os.FileMode{"version": 0o644, "install_update.sh": 0o755}
	pack(t, dir, name(1547861057, "tar.bz2"), january2019)
	for _, format := range []string{"tar.bz2", "tar.gz", "tar.zst"} {
		pack(t, dir, name(1550190683, format), proper())
	}
	s := serve(t, dir)
	s.awaitHashed(t, name(1547861057, "tar.bz2"))
	testworld.Await(t, "an answer that all is well", func() bool { return *health(t, s.base).OK })
	if line := s.log.line("level=WARN"); line != "" {
		t.Errorf("got %s", line)
	}
}

func improperArchivesAreServedWithAWarning(t *testing.T) {
	dir := t.TempDir()
	files := proper()
	delete(files, "install_update.sh")
	pack(t, dir, newest, files)
	s := serve(t, dir)
	s.awaitLog(t, "level=WARN", newest, "install_update.sh")
	s.awaitHealth(t, newest, "install_update.sh")
	health(t, s.base)
	get(t, s.base+"/ls").is(t, 200, "text/plain", newest)
	get(t, s.base+"/version").is(t, 200, "text/plain", "1550190683")
	get(t, s.base+"/latest").isRedirect(t, "/update/"+newest)
	get(t, s.base+"/update/"+newest).isArchive(t, newest, read(t, dir, newest))
}

// awaitHealth waits until "/" says all the given texts.
func (s *server) awaitHealth(t *testing.T, texts ...string) {
	t.Helper()
	testworld.Await(t, "health with "+strings.Join(texts, " and "), func() bool {
		body := get(t, s.base+"/").body
		for _, text := range texts {
			if !strings.Contains(body, text) {
				return false
			}
		}
		return true
	})
}

func versionsAreNumbers(t *testing.T) {
	dir := dropped(t, name(999999999, "tar.bz2"), name(1547861057, "tar.bz2"), name(2, "tar.bz2"),
		"opq-box-update-18446744073709551616.tar.bz2") // over 64 bits
	s := serve(t, dir)
	get(t, s.base+"/ls").is(t, 200, "text/plain", strings.Join([]string{name(2, "tar.bz2"), name(999999999, "tar.bz2"),
		name(1547861057, "tar.bz2"), "opq-box-update-18446744073709551616.tar.bz2"}, "\n"))
	get(t, s.base+"/version").is(t, 200, "text/plain", "18446744073709551616")
}

func badNamesDisturbNothing(t *testing.T) {
	dir := dropped(t, newest, "opq-box-update-latest.tar.bz2", "opq-box-update-1e9.tar.gz", "opq-box-update-\xff\x1b[2J.tar.bz2")
	s := serve(t, dir)
	get(t, s.base+"/version").is(t, 200, "text/plain", "1550190683")
	get(t, s.base+"/ls").is(t, 200, "text/plain", newest)
	s.awaitLog(t, "level=WARN", "opq-box-update-latest.tar.bz2")
	s.awaitHealth(t, "opq-box-update-latest.tar.bz2", "opq-box-update-1e9.tar.gz")
	if said := s.log.String() + get(t, s.base+"/").body; strings.Contains(said, "\xff") || strings.Contains(said, "\x1b") {
		t.Error("a file name from outside stands unescaped in log or health")
	}
}

func withdrawnIsNotNotFound(t *testing.T) {
	dir := dropped(t, newest)
	s := serve(t, dir)
	get(t, s.base+"/latest").isRedirect(t, "/update/"+newest)
	if err := os.Remove(filepath.Join(dir, newest)); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"/latest", "/version"} {
		if a := s.await(t, p, 503); a.header.Get("Retry-After") == "" {
			t.Errorf("%s: 503 without Retry-After", p)
		}
	}
	get(t, s.base+"/ls").is(t, 200, "text/plain", "")
	get(t, s.base+"/update/"+newest).isNotFound(t)
}

func fallsBackToTheUpdateBefore(t *testing.T) {
	before := name(1547861057, "tar.bz2")
	dir := dropped(t, before, newest)
	s := serve(t, dir)
	get(t, s.base+"/latest").isRedirect(t, "/update/"+newest)
	if err := os.Remove(filepath.Join(dir, newest)); err != nil {
		t.Fatal(err)
	}
	testworld.Await(t, "the update before", func() bool { return get(t, s.base+"/version").body == "1547861057" })
	get(t, s.base+"/latest").isRedirect(t, "/update/"+before)
}

// replaced starts a server and replaces its one update by other bytes under the same name.
func replaced(t *testing.T) (s *server, old answer, now []byte) {
	t.Helper()
	dir := dropped(t, newest)
	s = serve(t, dir)
	s.awaitHashed(t, newest)
	old = get(t, s.base+"/update/"+newest)
	now = []byte(strings.Repeat("other bytes\n", 1000))
	write(t, dir, newest, now)
	want := digest(now) + "  " + newest + "\n"
	testworld.Await(t, "the digest of what replaced it", func() bool { return get(t, s.base+"/update/"+newest+".sha256").body == want })
	return s, old, now
}

func replacedFilesAreSentWhole(t *testing.T) {
	s, old, now := replaced(t)
	for _, header := range [][]string{
		{"Range", "bytes=100-"},
		{"Range", "bytes=100-", "If-Range", old.header.Get("Etag")},
	} {
		get(t, s.base+"/update/"+newest, header...).isArchive(t, newest, now)
	}
	etag := get(t, s.base+"/update/"+newest).header.Get("Etag")
	get(t, s.base+"/update/"+newest, "Range", "bytes=100-", "If-Range", etag).is(t, 206, "application/octet-stream", string(now[100:]))
	s.awaitLog(t, "level=WARN", newest, "replaced")
	s.awaitHealth(t, newest, "replaced")
}

func oldDigestsOfReplacedFilesAreGone(t *testing.T) {
	s, old, now := replaced(t)
	for _, ending := range []string{"", ".sha256", ".blocks"} {
		get(t, s.base+"/sha256/"+digest([]byte(old.body))+ending).isNotFound(t)
	}
	get(t, s.base+"/sha256/"+digest(now)).isArchive(t, newest, now)
}
