package cli

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What is printed has no passwords of URLs.
func TestPrintableMasks(t *testing.T) {
	t.Parallel()
	const text, want = "see http://u:p@host/x, and https://t@other", "see http://***@host/x, and https://***@other"
	if got := Printable(text); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestURLs(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "urls")
	if err := os.WriteFile(file, []byte("http://u:p@one\n\n  http://two \r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := Streams{Getenv: func(name string) string { return map[string]string{"MIRRORS": "http://u:p@three"}[name] }}
	got, err := s.URLs([]string{"http://zero", "@" + file, "env:MIRRORS"})
	if want := []string{"http://zero", "http://u:p@one", "http://two", "http://u:p@three"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
	for _, arg := range []string{"env:NOTHING", "@" + file + ".no"} {
		if _, err := s.URLs([]string{arg}); err == nil || !strings.Contains(err.Error(), strings.TrimPrefix(arg, "@")) {
			t.Errorf("%s: %v", arg, err)
		}
	}
}
