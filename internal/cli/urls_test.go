package cli

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestMaskURLs(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"nothing here: a@b":                              "nothing here: a@b",
		"http://host/path":                               "http://host/path",
		"http://host:8080/@scope/x":                      "http://host:8080/@scope/x",
		"http://[::1]:8080/@scope":                       "http://[::1]:8080/@scope",
		"see http://u:p@host/x, and https://t@other":     "see http://***@host/x, and https://***@other",
		`["http://u:p@a","http://u:p@b"]`:                `["http://***@a","http://***@b"]`,
		`parse "http://u:p@[::1": missing`:               `parse "http://***@[::1": missing`,
		"http://u:p@ss@host":                             "http://***@host",
		"http://u:p/w@host":                              "http://***@host",
		"http://u:p%2Fw@host/a?b#c":                      "http://***@host/a?b#c",
		"get http://token@host: no route; http://u:@h/y": "get http://***@host: no route; http://***@h/y",
		"://": "://",
	} {
		if got := MaskURLs(text); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
		if got := Printable(text); got != want {
			t.Errorf("%s is printed as %s, want %s", text, got, want)
		}
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
