package main_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

// awaitLog waits for a line in the server's log that holds all the given texts, and returns it.
func (s *server) awaitLog(t *testing.T, texts ...string) (line string) {
	t.Helper()
	eventually(t, fmt.Sprintf("log line with %q", texts), func() bool {
		line = s.log.line(texts...)
		return line != ""
	})
	return line
}

// logged collects what a process writes. It is safe for concurrent use.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

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
