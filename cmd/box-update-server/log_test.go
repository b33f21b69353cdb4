package main_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/testworld"
)

// awaitLog waits for a line in the server's log that holds all the given texts, and returns it.
func (s *server) awaitLog(t *testing.T, texts ...string) (line string) {
	t.Helper()
	testworld.Await(t, fmt.Sprintf("log line with %q", texts), func() bool {
		line = s.log.line(texts...)
		return line != ""
	})
	return line
}

// Lines of requests may wait for others, and none is lost when the server ends: not of downloads that end after
// SIGTERM either.
func TestEachRequestIsLogged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	still(t, write(t, dir, newest, pattern(1<<20)))
	s := launch{settings: map[string]any{"updates_dir": dir, "max_bandwidth": 2 << 20}}.start(t)
	const requests, downloads = 100, 5
	for range requests {
		get(t, s.base+"/version").is(t, 200, "text/plain", "1550190683")
	}
	var all sync.WaitGroup
	for range downloads {
		resp, err := http.Get(s.base + "/update/" + newest)
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			defer resp.Body.Close()
			if n, err := io.Copy(io.Discard, resp.Body); n != 1<<20 || err != nil {
				t.Errorf("%d bytes, %v", n, err)
			}
		})
	}
	s.stop(t)
	all.Wait()
	for line, want := range map[string]int{"path=/version status=200 bytes=10 ": requests, "path=/update/" + newest + " status=200 bytes=1048576 ": downloads} {
		if n := strings.Count(s.log.String(), "msg=request method=GET "+line); n != want {
			t.Errorf("%s: %d lines for %d requests", line, n, want)
		}
	}
}

// logged collects what a process writes. It is safe for concurrent use.
type logged struct{ testworld.Log }

// line returns the first line with all the given texts, "" for none.
func (l *logged) line(texts ...string) string {
	for line := range strings.Lines(l.String()) {
		if !slices.ContainsFunc(texts, func(s string) bool { return !strings.Contains(line, s) }) {
			return line
		}
	}
	return ""
}

// tail returns the last lines other than those of single requests, for a person.
func (l *logged) tail() string {
	lines := slices.DeleteFunc(strings.SplitAfter(l.String(), "\n"), func(s string) bool { return strings.Contains(s, "msg=request") })
	return strings.Join(lines[max(0, len(lines)-40):], "")
}
