package main_test

import (
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// traced starts a server of a directory under strace; calls are those to trace. The trace is whole
// once the server has stopped.
func traced(t *testing.T, dir, calls string) (s *server, trace string) {
	t.Helper()
	trace = filepath.Join(t.TempDir(), "trace")
	s = launch{
		settings: map[string]any{"updates_dir": dir, "log_requests": true},
		wrap:     []string{need(t, "strace", "strace"), "-D", "-f", "-s", "5000", "-o", trace, "-e", "trace=" + calls},
	}.start(t)
	return s, trace
}

// Archive bodies, whole and in ranges, by name and by digest, leave by sendfile, small ones excepted.
func TestArchivesLeaveBySendfile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	archive := pattern(8 << 20)
	still(t, write(t, dir, newest, archive))
	s, trace := traced(t, dir, "sendfile,splice,write,writev,sendto,sendmsg")
	s.awaitHashed(t, newest)
	want, small := 0, 0
	for _, path := range []string{"/update/" + newest, "/sha256/" + digest(archive)} {
		for _, span := range []string{"", "bytes=0-65535", "bytes=5-", "bytes=4194300-4259835", "bytes=-100000"} {
			var header []string
			if span != "" {
				header = []string{"Range", span}
			}
			a := get(t, s.base+path, header...)
			if len(a.body) > 64<<10 {
				want += len(a.body)
			} else {
				small += len(a.body)
			}
			if a.status != http.StatusOK && a.status != http.StatusPartialContent {
				t.Errorf("%s %s: got %d", path, span, a.status)
			}
		}
	}
	s.awaitLog(t, "path=/update/"+newest, "range")
	s.stop(t)
	text := string(read(t, trace))
	if sent := returned(t, text, "sendfile"); sent != want {
		t.Errorf("%d of %d bytes left by sendfile", sent, want)
	}
	others := returned(t, text, "write") + returned(t, text, "writev") + returned(t, text, "sendto") + returned(t, text, "sendmsg")
	if others -= small; others < 0 || others > 100_000 { // headers, the log, the small answers
		t.Errorf("%d bytes left otherwise", others)
	}
}

// returned sums what a system call returned in a trace, errors aside.
func returned(t *testing.T, trace, call string) (sum int) {
	t.Helper()
	for _, m := range regexp.MustCompile(`(?m)^\d+ +(?:<\.\.\. )?`+call+`(?:\(| resumed>).* = (\d+)$`).FindAllStringSubmatch(trace, -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	return sum
}

// Names from outside never reach the file system unless they parse and are in the catalog.
func TestHostileNamesOpenNothing(t *testing.T) {
	t.Parallel()
	dir := dropped(t, newest)
	clutter(t, dir)
	s, trace := traced(t, dir, "openat,openat2,open,stat,lstat,newfstatat,statx,readlink,readlinkat,access,faccessat,faccessat2,read")
	s.awaitHashed(t, newest)
	const begin, end = "/begin-of-hostile-names", "/end-of-hostile-names"
	get(t, s.base+begin).isNotFound(t)
	for _, target := range hostileTargets() {
		rawGet(t, s.addr, target).isNotFound(t)
	}
	get(t, s.base+end).isNotFound(t)
	rawGet(t, s.addr, "/update/"+newest).isArchive(t, newest, body(newest))
	s.stop(t)

	text := string(read(t, trace))
	from, to := strings.Index(text, `"GET `+begin), strings.Index(text, `"GET `+end)
	if from < 0 || to < from {
		t.Fatal("the trace does not show the requests")
	}
	if !strings.Contains(text, newest+`", O_RDONLY`) {
		t.Error("the trace does not show how an archive is opened")
	}
	touched := regexp.MustCompile(`(?m)^\d+ +(?:open|stat|lstat|newfstatat|statx|readlink|access|faccessat)\w*\(.*$`)
	for _, call := range touched.FindAllString(text[from:to], -1) {
		if slices.ContainsFunc(allowed(dir), func(s string) bool { return strings.Contains(call, s) }) {
			continue
		}
		t.Errorf("hostile names touched the file system: %s", call)
	}
}

// allowed are calls that other work than answering makes: listing the directory, and what is in it. Where the kernel
// turns to another thread meanwhile, strace shows the call before its result.
func allowed(dir string) []string {
	archive := filepath.Join(dir, newest)
	const unfinished = "  <unfinished ...>"
	return []string{`"` + dir + `", O_RDONLY|O_NONBLOCK|O_CLOEXEC|O_DIRECTORY`, `"` + dir + `", {`, `"` + archive + `", {`,
		`"` + dir + `",` + unfinished, `"` + archive + `",` + unfinished}
}
